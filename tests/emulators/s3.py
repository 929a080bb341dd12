"""A real S3 server on loopback, moto's, with one bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "runs"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """The variables by which clients reach it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        client(variables).create_bucket(Bucket=BUCKET)
        yield variables
    finally:
        server.stop()


def client(variables: dict[str, str]):  # type: ignore[no-untyped-def]
    """boto3's, to look at the server from outside."""
    import boto3

    return boto3.client(
        "s3", endpoint_url=variables["AWS_ENDPOINT_URL"], aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"], region_name=variables["AWS_DEFAULT_REGION"],
    )  # fmt: skip
