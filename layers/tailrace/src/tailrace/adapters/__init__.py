"""The outside: DynamoDB, API Gateway, SQS, Lambda and Secrets Manager; the tables, the
gateway and the queue in memory, too."""
