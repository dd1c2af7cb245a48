#!/usr/bin/env python3
"""kill -9 of a real keystore process, again and again, in a storm of writes and in its ceremonies.

Holds: no acknowledged write is lost, nothing is half written, and the keystore opens each time: with
exactly the old or exactly the new shares. Shares that were stored and never answered, by init and by a
rekey without verification, nobody has: docs/operations.md says what to do.

    crash_test.py BIN_DIR [STORM_ROUNDS [CEREMONY_ROUNDS]]
"""

import base64
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


class Kills:
    """Rounds in which the keystore is killed while it does something, from "before it began" to "long done"."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.took = None

    def __iter__(self):
        return iter(range(self.rounds + 1))

    def strike(self, keystore, number, action):
        """The action's answer, or None where the kill came before it. Round 0 measures, and kills afterwards."""
        answers = []

        def run():
            try:
                answers.append(action())
            except (OSError, http.client.HTTPException):
                pass

        thread = threading.Thread(target=run)
        began = time.monotonic()
        thread.start()
        if number == 0:
            thread.join()
            self.took = time.monotonic() - began
        else:
            time.sleep(1.5 * self.took * (number - 1) / max(self.rounds - 1, 1))
        keystore.kill()
        thread.join()
        return answers[0] if answers else None


def rekey(keystore, shares, verification):
    """All shares but the last that it takes; (what gives that one, new shares where they are known)."""
    nonce = keystore.must("PUT", "sys/rekey/init", {
        "secret_shares": 5, "secret_threshold": 3, "require_verification": verification})["nonce"]
    for share in shares[:2]:
        keystore.must("PUT", "sys/rekey/update", {"key": share, "nonce": nonce})
    last = lambda: keystore.must("PUT", "sys/rekey/update", {"key": shares[2], "nonce": nonce})
    if not verification:
        return last, None
    answer = last()
    new_shares, nonce = answer["keys_base64"], answer["verification_nonce"]
    for share in new_shares[1:3]:
        keystore.must("PUT", "sys/rekey/verify", {"key": share, "nonce": nonce})
    return lambda: keystore.must("PUT", "sys/rekey/verify", {"key": new_shares[3], "nonce": nonce}), new_shares


def verified_rekey_rounds(keystore, shares, root_token, rounds):
    kept = changed = 0
    kills = Kills(rounds)
    for number in kills:
        last, new_shares = rekey(keystore, shares, verification=True)
        answer = kills.strike(keystore, number, last)
        keystore.start()
        old_opens = unseal(keystore, shares[2:5])
        if old_opens:
            keystore.must("PUT", "sys/seal", token=root_token)
        new_opens = unseal(keystore, new_shares[2:5])
        assert old_opens != new_opens, f"old shares open: {old_opens}, new shares open: {new_opens}"
        assert new_opens or not answer, "the rekey was acknowledged, and the new shares don't open"
        if new_opens:
            shares = new_shares
            changed += 1
        else:
            assert unseal(keystore, shares[:3])
            kept += 1
        assert keystore.request("GET", "auth/token/lookup-self", token=root_token)[0] == 200
    print(f"{rounds + 1} kills in rekeys with verification: opened {kept} times with the old, {changed} "
          "times with the new shares, never with both or none")
    return shares


def unverified_rekey_rounds(bin_dir, rounds):
    """Where the answer came, the new shares alone open it; where it didn't, the old ones, or those nobody has."""
    kept = changed = unseen = 0
    kills = Kills(rounds)
    keystore = None
    for number in kills:
        if keystore is None:
            keystore = Keystore(bin_dir)
            shares, root_token = keystore.initialize()
        try:
            last, _ = rekey(keystore, shares, verification=False)
            answer = kills.strike(keystore, number, last)
            keystore.start()
            old_opens = unseal(keystore, shares[2:5])
            if answer:
                assert not old_opens, "the rekey was acknowledged, and the old shares still open"
                shares = answer["keys_base64"]
                assert unseal(keystore, shares[1:4]), "the rekey was acknowledged, and the new shares don't open"
                changed += 1
            elif old_opens:
                kept += 1
            else:
                unseen += 1
            if answer or old_opens:
                assert keystore.request("GET", "auth/token/lookup-self", token=root_token)[0] == 200
        finally:
            if sys.exc_info()[0] or number == rounds or not (answer or old_opens):
                keystore.stop()
                keystore = None
    print(f"{rounds + 1} kills in rekeys without verification: opened {kept} times with the old, {changed} "
          f"times with the new shares; {unseen} times the new ones were stored and not answered")


def rotate_rounds(keystore, shares, root_token, rounds):
    kept = changed = 0
    kills = Kills(rounds)
    get = lambda path: keystore.must("GET", path, token=root_token)["data"]
    for number in kills:
        term = get("sys/key-status")["term"]
        keystore.must("POST", f"secret/data/term/{number}", {"data": {"number": number}}, root_token)
        answer = kills.strike(keystore, number, lambda: keystore.request("PUT", "sys/rotate", token=root_token))
        keystore.start()
        assert unseal(keystore, shares[2:5]), "the shares don't open it"
        now = get("sys/key-status")["term"]
        assert now in (term, term + 1), f"term {term} became {now}"
        assert now == term + 1 or not answer, "an acknowledged rotation is lost"
        changed += now - term
        kept += term + 1 - now
        for old in range(number + 1):
            assert get(f"secret/data/term/{old}")["data"] == {"number": old}
    print(f"{rounds + 1} kills in rotations: {kept} times the old, {changed} times the new data key, and "
          "every secret is readable")


def generate_root_rounds(keystore, shares, root_token, rounds):
    kept = made = unseen = 0
    kills = Kills(rounds)
    accessors = lambda: len(keystore.must("LIST", "auth/token/accessors", token=root_token)["data"]["keys"])
    for number in kills:
        before = accessors()
        attempt = keystore.must("PUT", "sys/generate-root/attempt")
        give = lambda share: keystore.must(
            "PUT", "sys/generate-root/update", {"key": share, "nonce": attempt["nonce"]})
        for share in shares[:2]:
            give(share)
        answer = kills.strike(keystore, number, lambda: give(shares[2]))
        keystore.start()
        assert unseal(keystore, shares[2:5]), "the shares don't open it"
        assert not keystore.must("GET", "sys/generate-root/attempt")["started"]
        more = accessors() - before
        assert more in (0, 1), f"{more} tokens more"
        if answer:
            encoded = answer["encoded_token"]
            mixed = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
            token = bytes(a ^ b for a, b in zip(mixed, attempt["otp"].encode())).decode()
            policies = keystore.must("GET", "auth/token/lookup-self", token=token)["data"]["policies"]
            assert policies == ["root"], policies
            made += 1
        elif more:
            unseen += 1
        else:
            kept += 1
    print(f"{rounds + 1} kills in generate-root: {made} times a root token that works, {kept} times none, "
          f"{unseen} times one that nobody was told")


def init_rounds(bin_dir, rounds):
    """Answered, its shares open it; unanswered, it can be initialised, or has shares that nobody has."""
    none = made = unseen = 0
    kills = Kills(rounds)
    for number in kills:
        keystore = Keystore(bin_dir)
        try:
            answer = kills.strike(keystore, number, lambda: keystore.must(
                "PUT", "sys/init", {"secret_shares": 5, "secret_threshold": 3}))
            keystore.start()
            initialized = keystore.must("GET", "sys/init")["initialized"]
            assert initialized or not answer, "an acknowledged initialisation is lost"
            if answer:
                assert unseal(keystore, answer["keys_base64"][2:5]), "the shares don't open it"
                keystore.must("GET", "auth/token/lookup-self", token=answer["root_token"])
                made += 1
            elif initialized:
                unseen += 1
            else:
                _, root_token = keystore.initialize()
                listed = keystore.must("LIST", "auth/token/accessors", token=root_token)["data"]["keys"]
                assert len(listed) == 1, f"tokens of the initialisation that was killed: {listed}"
                none += 1
        finally:
            keystore.stop()
    print(f"{rounds + 1} kills in init: {made} times the shares open it, {none} times it could be initialised "
          f"again, {unseen} times the shares were stored and not answered")


def main():
    bin_dir = sys.argv[1]
    storms = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    keystore = Keystore(bin_dir)
    try:
        shares, root_token = keystore.initialize()
        storm_rounds(keystore, shares, root_token, storms)
        shares = verified_rekey_rounds(keystore, shares, root_token, rounds)
        rotate_rounds(keystore, shares, root_token, rounds)
        generate_root_rounds(keystore, shares, root_token, rounds)
    finally:
        keystore.stop()
    init_rounds(bin_dir, rounds)
    unverified_rekey_rounds(bin_dir, rounds)


if __name__ == "__main__":
    main()
