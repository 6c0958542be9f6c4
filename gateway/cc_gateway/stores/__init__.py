"""The database: SQLAlchemy Core over SQLite (embedded) or PostgreSQL, by URL.

`engine` opens it and gives transactions, `schema` names the tables, and `sessions`, `turns`, `record` hold the queries of
one noun each: plain functions over a connection, so that a use case composes them in one transaction.
"""
