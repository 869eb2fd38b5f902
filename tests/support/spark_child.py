"""Runs SQL in Spark for the tests; started with Spark's own Python, so it imports nothing of ours.

Arguments: the jars, the SQLite file of the catalog, its warehouse. Pickles go in (a statement and its
parameters) and out (rows as dictionaries, or the text of an error) over standard input and output.
"""

from __future__ import annotations

import datetime
import os
import pickle
import sys
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, DataType, StructType, TimestampType


def plain(value: Any, type_: DataType) -> Any:
    """A value in the form that pyarrow gives it in."""
    if value is None:
        return None
    if isinstance(type_, StructType):
        return {field.name: plain(value[field.name], field.dataType) for field in type_.fields}
    if isinstance(type_, ArrayType):
        return [plain(item, type_.elementType) for item in value]
    if isinstance(type_, TimestampType):  # in the zone of this process, which is UTC
        return value.replace(tzinfo=datetime.UTC)
    return bytes(value) if isinstance(value, bytearray) else value


def session(jars: str, database: str, warehouse: str) -> SparkSession:
    """A session in this process, with the catalog `lake`."""
    settings = {
        "spark.jars": jars,
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lake.type": "jdbc",
        "spark.sql.catalog.lake.uri": f"jdbc:sqlite:{database}",
        "spark.sql.catalog.lake.jdbc.schema-version": "V1",
        "spark.sql.catalog.lake.warehouse": f"file://{warehouse}",
        "spark.sql.catalog.lake.cache-enabled": "false",
    }
    builder = SparkSession.builder.master("local[1]").appName("airberg-tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main() -> None:
    """Answer statements until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever Java prints goes to standard error
    spark = session(*sys.argv[1:])
    answers.write(pickle.dumps(("ready",)))
    answers.flush()
    while True:
        try:
            statement, parameters = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the test that started this
        except EOFError:
            break
        try:
            found = spark.sql(statement, args=parameters) if parameters else spark.sql(statement)
            answer: Any = [plain(row, found.schema) for row in found.collect()]
        except Exception as error:  # noqa: BLE001 - the test shows it
            answer = str(error)
        answers.write(pickle.dumps(answer))
        answers.flush()
    spark.stop()


if __name__ == "__main__":
    main()
