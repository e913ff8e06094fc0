"""The outside: DynamoDB, API Gateway and Secrets Manager, and the same in memory."""
