#!/usr/bin/env python3
"""kill -9 of a real keystore process while it revokes the tokens of a disabled auth method.

Holds: after the restart either the method is there with all its tokens, or it is gone, and so are the
tokens once the keystore has been open for a moment. Nobody else's token is touched.

    revocation_test.py BIN_DIR [ROUNDS]
"""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from coffer_test import Keystore, TokenSigner, eventually  # noqa: E402

TOKENS = 600


def enable(keystore, signer, root_token):
    # 503 as long as the tokens of the one before are being revoked
    eventually(lambda: keystore.must("POST", "sys/auth/kubernetes", {"type": "kubernetes"}, root_token) is None,
               ignore=[AssertionError])
    keystore.must("POST", "auth/kubernetes/config", {"pem_keys": [signer.certificate()]}, root_token)
    keystore.must("POST", "auth/kubernetes/role/web", {
        "bound_service_account_names": "*", "bound_service_account_namespaces": "*",
        "token_policies": "default"}, root_token)


def log_in(keystore, jwt):
    answer = keystore.must("POST", "auth/kubernetes/login", {"role": "web", "jwt": jwt})
    return answer["auth"]["client_token"]


def lives(keystore, token):
    return keystore.request("GET", "auth/token/lookup-self", token=token)[0] == 200


def rounds_of(keystore, signer, shares, root_token, rounds):
    bystander = keystore.must("POST", "auth/token/create", {}, root_token)["auth"]["client_token"]
    kept = ended = unanswered = 0
    for number in range(rounds):
        if "kubernetes/" not in keystore.must("GET", "sys/auth", token=root_token)["data"]:
            enable(keystore, signer, root_token)
        jwt = signer.token()
        tokens = [log_in(keystore, jwt) for _ in range(TOKENS)]
        outcome = []

        def disable():
            try:
                outcome.append(keystore.request("DELETE", "sys/auth/kubernetes", token=root_token)[0])
            except OSError:
                pass
            except Exception as error:  # cut off in the middle of an answer
                outcome.append(error)

        thread = threading.Thread(target=disable)
        thread.start()
        time.sleep(0.2 * number / max(rounds - 1, 1))
        keystore.kill()
        thread.join()

        keystore.start()
        for share in shares[:3]:
            keystore.must("PUT", "sys/unseal", {"key": share})
        there = "kubernetes/" in keystore.must("GET", "sys/auth", token=root_token)["data"]
        acknowledged = outcome == [204]
        if acknowledged:
            assert not there, "the method was disabled, and is there"
            assert not any(lives(keystore, token) for token in tokens), "a revoked token is back"
        if there:
            assert all(lives(keystore, token) for token in tokens), "half of it was revoked"
            kept += 1
        else:
            for _ in range(100):
                if not any(lives(keystore, token) for token in tokens):
                    break
                time.sleep(0.1)
            else:
                raise AssertionError("tokens outlive their method")
            ended += 1
            unanswered += not acknowledged
        assert lives(keystore, bystander) and lives(keystore, root_token)
    print(f"{rounds} kills while an auth method was disabled: {kept} times it kept its {TOKENS} tokens, "
          f"{ended} times they ended with it, {unanswered} of these without an answer")


def main():
    bin_dir = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    keystore = Keystore(bin_dir)
    try:
        signer = TokenSigner(keystore.folder)
        shares, root_token = keystore.initialize()
        rounds_of(keystore, signer, shares, root_token, rounds)
    finally:
        keystore.stop()


if __name__ == "__main__":
    main()
