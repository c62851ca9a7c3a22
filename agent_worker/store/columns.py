"""Column types that mean the same on SQLite and on PostgreSQL, and how a time is written on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Dialect, MetaData, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables of this product."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, to the microsecond; SQLite keeps it as text that sorts like the time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time, and write UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
NullableJson = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def text(name: str, *, null: bool = True, **options: Any) -> Column[Any]:
    """Return a text column."""
    return Column(name, Text, nullable=null and not options.get("primary_key"), **options)


def moment(name: str, *, null: bool = True) -> Column[Any]:
    """Return a column that holds a time."""
    return Column(name, UtcDateTime(), nullable=null)


def json_object(name: str) -> Column[Any]:
    """Return a JSON column that holds an object, `{}` unless said otherwise."""
    return Column(name, Json, nullable=False, default=dict)


def json_list(name: str) -> Column[Any]:
    """Return a JSON column that holds a list, `[]` unless said otherwise."""
    return Column(name, Json, nullable=False, default=list)


def wire_time(value: datetime | None) -> str | None:
    """Return the time as the contract writes it: six digits of microseconds and `Z`, so that it sorts."""
    if value is None:
        return None
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
