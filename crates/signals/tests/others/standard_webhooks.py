"""Verifies requests, one a line, with the library of Standard Webhooks, with the secret that each names."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    request = json.loads(line)
    try:
        Webhook(request["secret"]).verify(request["body"], request["headers"])
        print("good")
    except WebhookVerificationError:
        print("bad")
