"""Starts a city, lets schemathesis attack each service's document as each role, and prints what came of it."""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import requests

HERE = pathlib.Path(__file__).parent
# Who may change most comes last: what is closed or sold out by then has been ordered from.
ROLES = ["nobody", "customer0", "courier0", "support", "owner0", "admin"]
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "ignored_auth", "unsupported_method",
    "allow_header_conformance", "use_after_free", "ensure_resource_availability",
]
# Left out: missing_required_header, which takes the token for left out though --header puts it back; a missing key is
# among the negative data. positive_data_acceptance, because a well-formed order for a closed kitchen is refused.
# These end the session that the other requests live on, so they have a run of their own.
ENDS_SESSIONS = ["/logout", "/api/v1/sessions/{id}"]
# Answer 401 for reasons of their own, whoever calls.
PROVES_ITSELF = ["POST /login", "POST /token", "POST /revoke", "POST /api/v1/provider-events"]
AT_ONCE = 2


@contextlib.contextmanager
def removed(folder):
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class City:
    """A city of its own, with ports, data and logs of its own; it ends with the block."""

    def __init__(self, program, folder):
        self.program, self.data, self.log = program, folder / "city", folder / "city.log"

    def __enter__(self):
        limits = ["--set", "gateway.per_address=100000", "--set", "gateway.per_caller=100000"]
        command = [self.program, "up", "--data", self.data, "--ports", "auto", "--json", *limits]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        first = self.process.stdout.readline()
        if not first:
            self.__exit__()
            sys.exit(f"the city did not start:\n{self.log.read_text()}")
        where = json.loads(first)
        self.gateway = where["gateway"]
        self.services = {
            name: f"http://{member['address']}"
            for name, member in sorted(where["members"].items())
            if name not in ("gateway", "card-network")
        }
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tell(self, *words):
        """The last line of a command, as JSON."""
        command = [self.program, *words, "--data", self.data, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def authorization(self, role):
        if role == "nobody":
            return ""
        return "Bearer " + self.tell("token", f"{role}@demo.example")["access_token"]

    def panics(self):
        return [line for line in self.log.read_text().splitlines() if "panicked" in line or "panic:" in line]


def write_dictionaries(city, folder):
    """What exists after two orders, one done and one under way, for requests that reach something."""
    city.tell("demo", "order")
    city.tell("demo", "double-tap", "-n", "2")
    everything = {"Authorization": city.authorization("admin")}

    def items(path):
        answer = requests.get(city.gateway + path, headers=everything, timeout=15)
        answer.raise_for_status()
        return answer.json()["items"]

    orders = items("/api/v1/orders")
    restaurant = orders[0]["restaurant_id"]
    payments = [payment for order in orders for payment in items(f"/api/v1/payments?order_id={order['id']}")]
    known = {
        "orders": [order["id"] for order in orders],
        "payments": [payment["payment_id"] for payment in payments],
        "restaurants": [order["restaurant_id"] for order in orders],
        "organisations": [order["org_id"] for order in orders],
        "customers": [order["customer_id"] for order in orders],
        "items": [item["item_id"] for item in items(f"/api/v1/restaurants/{restaurant}/menu")],
    }
    for name, values in known.items():
        text = "".join(f'"{value}"\n' for value in dict.fromkeys(values))
        (folder / f"{name}.dict").write_text(text)
    return known


def write_inputs(city, folder):
    """Everything that schemathesis reads; returns the documents."""
    known, documents = write_dictionaries(city, folder), {}
    shutil.copy(HERE / "hooks.py", folder)
    for service, address in city.services.items():
        documents[service] = requests.get(f"{address}/openapi.json", timeout=15).json()
        (folder / f"{service}.json").write_text(json.dumps(documents[service]))
        # A bare `id` is that of the service's own things.
        own = service if service in known else "orders"
        config = (HERE / "schemathesis.toml").read_text().replace("OWN", own)
        (folder / f"{service}.toml").write_text(config)
    return documents


class Attack:
    """One run of schemathesis: one role, one document, perhaps not all of its operations."""

    def __init__(self, city, folder, options, role, service, name=None, only=(), without=()):
        self.role, self.service, self.name = role, service, name or service
        self.city, self.folder, self.options = city, folder, options
        # What only the city's own services may call is not to be had at the gateway.
        self.paths = ["--exclude-path-regex=^/internal/", *(f"--include-path={path}" for path in only)]
        self.paths += (f"--exclude-path={path}" for path in without)
        self.counts = {}

    def run(self, authorization):
        file = self.folder / f"{self.role}-{self.name.replace(' ', '-')}.json"
        phases = "examples,coverage" if self.options.quick else "examples,coverage,fuzzing,stateful"
        command = [
            pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file", self.folder / f"{self.service}.toml",
            "run", self.folder / f"{self.service}.json", "--url", self.city.gateway, "--no-color",
            "--phases", phases, "--max-examples", str(self.options.examples), "--seed", str(self.options.seed),
            "--checks", ",".join(CHECKS), *self.paths,
        ]
        if authorization:
            command += ["--header", f"Authorization: {authorization}"]
        environment = {**os.environ, "ATTACK_AUTHORIZATION": authorization, "ATTACK_COUNTS": str(file)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder, timeout=240)
        self.output, self.code = done.stdout + done.stderr, done.returncode
        if file.exists():
            self.counts = json.loads(file.read_text())
        return self

    def answers(self):
        """How often each status came, over all operations."""
        return sum((collections.Counter(statuses) for statuses in self.counts.values()), collections.Counter())

    def complaints(self):
        """Why this run does not count as passed, beside what schemathesis itself found."""
        answers = self.answers()
        if not answers:
            yield "no request was answered"
        if self.role != "nobody" and self.name != ENDING:
            dead = [label for label, statuses in self.counts.items() if statuses.get("401") and label not in PROVES_ITSELF]
            if dead:
                yield f"the token was refused: {', '.join(dead)}"

    def row(self):
        answers = self.answers()
        by_class = collections.Counter()
        for status, count in answers.items():
            by_class[f"{status[0]}xx"] += count
        shown = "  ".join(f"{name} {by_class[name]:5}" for name in ("2xx", "3xx", "4xx", "5xx"))
        found = re.search(r"(\d+) unique failures?", self.output)
        findings = int(found.group(1)) if found else 0
        said = "" if self.code == 0 else f"  {findings} findings" if findings else f"  ended with {self.code}"
        return f"{self.role:<10} {self.name:<20} {sum(answers.values()):6} requests  {shown}{said}"

    def report(self):
        """What schemathesis said, from its first finding on."""
        _, found, rest = self.output.partition("= FAILURES =")
        _, error, rest_of_error = self.output.partition("= ERRORS =")
        return rest.split("\n", 1)[-1] if found else rest_of_error if error else self.output


ENDING = "auth: ends sessions"


def attacks_of(role, city, folder, options):
    """The runs of a role, each with the moment from which it may start: none beside what ends its session."""
    def attack(service, **more):
        return Attack(city, folder, options, role, service, **more)

    if role == "nobody":
        return [attack(service) for service in city.services], []
    first = [attack(s, without=ENDS_SESSIONS if s == "auth" else ()) for s in city.services]
    return first, [attack("auth", name=ENDING, only=ENDS_SESSIONS)]


def attack_as(role, city, folder, options, pool):
    done = []
    for attacks in attacks_of(role, city, folder, options):
        authorization = city.authorization(role) if attacks else ""
        for attack in pool.map(lambda a: a.run(authorization), attacks):
            print(attack.row(), flush=True)
            done.append(attack)
    return done


def never_done(documents, attacks):
    """Operations that succeeded for nobody: what the attack did not reach."""
    offered = {
        f"{method.upper()} {path}"
        for document in documents.values()
        for path, methods in document["paths"].items()
        for method in methods
        if not path.startswith("/internal/")
    }
    for attack in attacks:
        offered -= {label for label, statuses in attack.counts.items() if any(status[0] in "23" for status in statuses)}
    return sorted(offered)


def judge(city, attacks):
    failed = [attack for attack in attacks if attack.code != 0]
    for attack in failed:
        print(f"\n== {attack.role}, {attack.name}\n{attack.report()}")
    complaints = [f"{a.role}, {a.name}: {why}" for a in attacks for why in a.complaints()]
    complaints += [f"a panic: {line}" for line in city.panics()]
    if city.process.poll() is not None:
        complaints.append(f"the city ended with {city.process.returncode}:\n{city.log.read_text()[-2000:]}")
    print("\n".join(complaints), end="\n" if complaints else "")
    return not failed and not complaints


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=os.path.abspath)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--role", action="append", choices=ROLES)
    options = parser.parse_args()
    # So that the city ends with us, whatever ends us.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    began = time.monotonic()
    print(f"seed {options.seed}; the same again: scripts/schemathesis --seed {options.seed}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="foodexpress-attack-"))
    with removed(folder), City(options.program, folder) as city:
        documents = write_inputs(city, folder)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            attacks = [a for role in options.role or ROLES for a in attack_as(role, city, folder, options, pool)]
        passed = judge(city, attacks)
    unreached = never_done(documents, attacks)
    if unreached:
        print(f"succeeded for nobody, so refused before their end: {', '.join(unreached)}")
    requests_sent = sum(sum(a.answers().values()) for a in attacks)
    print(f"{'passed' if passed else 'FAILED'}: {requests_sent} requests in {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
