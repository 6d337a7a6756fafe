"""What schemathesis cannot know from the documents: keys belong to one request; and a count of what was answered."""

import atexit
import collections
import json
import os
import re
import uuid

import schemathesis

KEY = "Idempotency-Key"
RIGHT = re.compile(r"[\x21-\x7e]{1,255}\Z")

counts = collections.defaultdict(collections.Counter)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives a valid key's place to a fresh one, or the second request would only meet the first one's answer."""
    given = (case.headers or {}).get(KEY)
    if isinstance(given, str) and RIGHT.match(given):
        case.headers[KEY] = str(uuid.uuid4())


@schemathesis.hook
def after_call(context, case, response):
    """Counts answers; probes that leave out or spoil the token are kept apart."""
    sent = response.request.headers.get("Authorization", "")
    ours = sent == os.environ.get("ATTACK_AUTHORIZATION", "")
    counts[f"{response.request.method} {case.operation.path}"][f"{response.status_code}{'' if ours else ' without our token'}"] += 1


@atexit.register
def write_counts():
    with open(os.environ["ATTACK_COUNTS"], "w", encoding="utf-8") as file:
        json.dump(counts, file)
