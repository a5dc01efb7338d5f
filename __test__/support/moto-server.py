"""moto's S3 server with the one property of AWS that it lacks: what a request compares and what it then writes is one step.

moto checks a condition, creates the object and adds its metadata in steps that threads can come between; a registry that
relies on `If-Match` then loses a write every few thousand, and a reader may see an object without its metadata.
"""

from threading import RLock

from moto.s3.responses import S3Response
from moto.server import main

STEP = RLock()


def alone(name):
    handle = getattr(S3Response, name)

    # The body has come from the network before: nobody waits for a slow one in here.
    def handle_alone(self, *given, **named):
        with STEP:
            return handle(self, *given, **named)

    setattr(S3Response, name, handle_alone)


for operation in ["_key_response_get", "_key_response_put", "_key_response_post", "_key_response_delete", "head_object"]:
    alone(operation)

main()
