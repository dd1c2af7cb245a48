#!/usr/bin/env python3
"""kill -9 of a real keystore process, again and again, in a storm of writes and while it is rekeyed.

Holds: no acknowledged write is lost, nothing is half written, and the keystore opens each time: with
exactly the old or exactly the new shares.

    crash_test.py BIN_DIR [STORM_ROUNDS [REKEY_ROUNDS]]
"""

import http.client
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from coffer_test import Keystore  # noqa: E402

WRITERS = 8
KEPT_VERSIONS = 10  # of kv-v2 by default


class Storm:
    """Threads that write until the keystore dies, and remember what it acknowledged."""

    def __init__(self, keystore, root_token, record):
        self.keystore = keystore
        self.root_token = root_token
        self.record = record
        self.lock = threading.Lock()
        self.errors = []
        self.threads = [threading.Thread(target=self.write, args=(i,)) for i in range(WRITERS)]

    def write(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.keystore.port, timeout=20)
        headers = {"X-Vault-Token": self.root_token}
        pick = random.Random()
        for count in range(1_000_000):
            # A path of its own, one that all write, and now and then a token.
            kind = pick.choice(("own", "own", "shared", "token"))
            value = f"{number}-{count}-{pick.random()}"
            try:
                if kind == "token":
                    body = {"policies": ["default"], "meta": {"value": value}}
                    connection.request("POST", "/v1/auth/token/create", json.dumps(body), headers)
                else:
                    name = f"own/{number}" if kind == "own" else "shared"
                    body = {"data": {"value": value, "padding": "x" * pick.randrange(2000)}}
                    connection.request("POST", f"/v1/secret/data/{name}", json.dumps(body), headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                return  # killed: not acknowledged
            with self.lock:
                if answer.status != 200:
                    self.errors.append(f"{kind}: {answer.status} {text[:200]}")
                    return
                document = json.loads(text)
                if kind == "token":
                    self.record.tokens[document["auth"]["client_token"]] = (
                        document["auth"]["accessor"], value)
                else:
                    self.record.versions.setdefault(name, {})[document["data"]["version"]] = value

    def run(self, seconds):
        for thread in self.threads:
            thread.start()
        time.sleep(seconds)
        self.keystore.kill()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors


class Record:
    """What was acknowledged, and the check that it is there."""

    def __init__(self):
        self.versions = {}  # name -> {version: value}
        self.tokens = {}  # token -> (accessor, value)
        self.checked_tokens = set()

    def check(self, keystore, root_token):
        get = Getter(keystore, root_token)
        for name in get.keys("secret/metadata/own"):
            self.check_secret(get, f"own/{name}")
        self.check_secret(get, "shared")

        listed = set(get.keys("auth/token/accessors"))
        for token, (accessor, value) in self.tokens.items():
            if token in self.checked_tokens:
                assert accessor in listed, f"an acknowledged token is no more listed: {accessor}"
                continue
            status, answer = get("GET", "auth/token/lookup-self", token=token)
            assert status == 200, f"an acknowledged token is lost: {status} {answer}"
            assert answer["data"]["meta"]["value"] == value
            assert answer["data"]["accessor"] == accessor
            self.checked_tokens.add(token)
        known = {accessor for accessor, _ in self.tokens.values()}
        for accessor in listed - known:  # not acknowledged: there as a whole or not at all
            status, answer = get("POST", "auth/token/lookup-accessor", {"accessor": accessor})
            assert status == 200, f"half a token: accessor {accessor}: {status} {answer}"
        return len(self.tokens) + sum(len(found) for found in self.versions.values())

    def check_secret(self, get, name):
        acknowledged = self.versions.get(name, {})
        status, answer = get("GET", f"secret/metadata/{name}")
        assert status == 200 or not acknowledged, f"{name} is lost: {status} {answer}"
        if status != 200:
            return
        metadata = answer["data"]
        current = metadata["current_version"]
        assert current >= max(acknowledged, default=0), (
            f"{name}: version {max(acknowledged)} was acknowledged, the newest is {current}")
        oldest = max(1, current - KEPT_VERSIONS + 1)
        assert sorted(map(int, metadata["versions"])) == list(range(oldest, current + 1)), metadata
        for version in range(oldest, current + 1):
            status, answer = get("GET", f"secret/data/{name}?version={version}")
            assert status == 200, f"{name}: version {version} can't be read: {status} {answer}"
            value = answer["data"]["data"]["value"]
            assert acknowledged.get(version, value) == value, f"{name}: version {version} changed"
            acknowledged[version] = value  # seen, so it stays
        status, _ = get("GET", f"secret/data/{name}?version={current + 1}")
        assert status == 404, f"{name}: there is a version that the metadata doesn't know"


class Getter:
    """Requests over one kept connection."""

    def __init__(self, keystore, token):
        self.connection = http.client.HTTPConnection("127.0.0.1", keystore.port, timeout=20)
        self.token = token

    def __call__(self, method, path, body=None, token=None):
        data = None if body is None else json.dumps(body)
        self.connection.request(method, "/v1/" + path, data, {"X-Vault-Token": token or self.token})
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def keys(self, path):
        status, answer = self("LIST", path)
        return answer["data"]["keys"] if status == 200 else []


def unseal(keystore, shares):
    """Whether these shares open it."""
    keystore.must("PUT", "sys/unseal", {"reset": True})
    for share in shares:
        status, answer = keystore.request("PUT", "sys/unseal", {"key": share})
        if status != 200:
            return False
    return not answer["sealed"]


def storm_rounds(keystore, shares, root_token, rounds):
    keystore.must("POST", "sys/mounts/secret", {"type": "kv-v2"}, root_token)
    record = Record()
    total = 0
    for _ in range(rounds):
        Storm(keystore, root_token, record).run(random.uniform(0.05, 0.35))
        keystore.start()
        assert unseal(keystore, shares[:3]), "three of the shares don't open the keystore"
        total = record.check(keystore, root_token)
    assert total > rounds * 10, f"only {total} writes were acknowledged: no storm"
    print(f"{rounds} kills in a write storm: {total} acknowledged writes, none lost, none half written")


def rekey_until_verification(keystore, shares):
    """New shares, which are valid once they have been verified: (shares, nonce)."""
    nonce = keystore.must("PUT", "sys/rekey/init", {
        "secret_shares": 5, "secret_threshold": 3, "require_verification": True})["nonce"]
    for share in shares[:3]:
        answer = keystore.must("PUT", "sys/rekey/update", {"key": share, "nonce": nonce})
    assert answer["complete"]
    return answer["keys_base64"], answer["verification_nonce"]


def rekey_rounds(keystore, shares, root_token, rounds):
    kept = changed = 0
    for number in range(rounds):
        new_shares, nonce = rekey_until_verification(keystore, shares)
        outcome = []

        def verify():
            try:
                for share in new_shares[1:4]:
                    outcome.append(keystore.must(
                        "PUT", "sys/rekey/verify", {"key": share, "nonce": nonce}).get("complete", False))
            except (OSError, http.client.HTTPException):
                pass

        thread = threading.Thread(target=verify)
        thread.start()
        # From "before the first share" to "long done".
        time.sleep(0.03 * number / max(rounds - 1, 1))
        keystore.kill()
        thread.join()
        done = bool(outcome) and outcome[-1]

        keystore.start()
        old_opens = unseal(keystore, shares[2:5])
        if old_opens:
            keystore.must("PUT", "sys/seal", token=root_token)
        new_opens = unseal(keystore, new_shares[2:5])
        assert old_opens != new_opens, f"old shares open: {old_opens}, new shares open: {new_opens}"
        assert new_opens or not done, "the rekey was acknowledged, and the new shares don't open"
        if new_opens:
            shares = new_shares
            changed += 1
        else:
            assert unseal(keystore, shares[:3])
            kept += 1
        assert keystore.request("GET", "auth/token/lookup-self", token=root_token)[0] == 200
    print(f"{rounds} kills while rekeying: opened {kept} times with the old, {changed} times with the "
          "new shares, never with both or none")
    return shares


def main():
    bin_dir = sys.argv[1]
    storms = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    rekeys = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    keystore = Keystore(bin_dir)
    try:
        shares, root_token = keystore.initialize()
        storm_rounds(keystore, shares, root_token, storms)
        rekey_rounds(keystore, shares, root_token, rekeys)
    finally:
        keystore.stop()


if __name__ == "__main__":
    main()
