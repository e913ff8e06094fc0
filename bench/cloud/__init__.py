"""AWS in virtual time: the real functions, clients and consumers, with only the wire
replaced. Whatever crosses it is counted (`bench.cost`), takes its time
(`bench.latency`), and meets its limits (`bench.limits`).
"""
