"""The database: tables, migrations, and the queries that speak the wire contract's shapes."""
