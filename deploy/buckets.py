"""Makes the buckets that are named, where they are missing: `python deploy/buckets.py mlflow store`."""

import sys

import boto3
from botocore.config import Config

WAITING = Config(retries={"total_max_attempts": 12, "mode": "standard"})  # the store may still be starting

if __name__ == "__main__":
    store = boto3.client("s3", config=WAITING)  # address and keys: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    for name in sys.argv[1:]:
        if name not in there:
            store.create_bucket(Bucket=name)
        print(f"{name}: {'there' if name in there else 'made'}")
