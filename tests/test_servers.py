"""The test servers themselves: fresh databases and buckets, and nothing left behind."""

from __future__ import annotations

import pytest
import sqlalchemy as sql

from tests.support.s3 import S3Bucket


@pytest.mark.postgres
@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database(postgres_database: str, turn: int) -> None:
    engine = sql.create_engine(postgres_database)
    with engine.begin() as connection:
        assert sql.inspect(connection).get_table_names() == []
        connection.execute(sql.text("CREATE TABLE patients AS SELECT lower('ÄÖ') AS name"))
        assert connection.scalar(sql.text("SELECT name FROM patients")) == "äö"
    engine.dispose()


@pytest.mark.s3
@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_bucket(s3_bucket: S3Bucket, turn: int) -> None:
    client = s3_bucket.server.client()
    assert client.list_objects_v2(Bucket=s3_bucket.name)["KeyCount"] == 0
    client.put_object(Bucket=s3_bucket.name, Key="a", Body=b"a")
    assert client.list_objects_v2(Bucket=s3_bucket.name)["KeyCount"] == 1
    client.close()
