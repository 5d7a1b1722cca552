"""Reads messages of Slack, one a line, into slack_sdk's own models, which refuse what Block Kit does not allow."""

import json
import sys

from slack_sdk.models.blocks import Block

for line in sys.stdin:
    message = json.loads(line)
    blocks = Block.parse_all(message["blocks"])
    assert len(blocks) == len(message["blocks"])
    for block, sent in zip(blocks, message["blocks"], strict=True):
        # `to_dict` validates: lengths, counts, required members.
        understood = block.to_dict()
        assert understood == sent, f"{sent}\nis understood as\n{understood}"
    print("good")
