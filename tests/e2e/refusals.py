"""Pods that can't start: each says why, on its events, and what to do."""

from world import until

OTHER_KEY = "- objectName: a\n  secretPath: secret/data/webapp/config\n  secretKey: nothing\n"
OTHER_PATH = "- objectName: a\n  secretPath: secret/data/other\n  secretKey: a\n"
ESCAPE = "- objectName: ../a\n  secretPath: secret/data/webapp/config\n  secretKey: a\n"

# name, parameters of its class (None: no class), account, what the event must say
CASES = [
    ("no-class", None, "vault", r"SecretProviderClass default/no-class.*not found"),
    ("no-role", {"roleName": "nobody"}, "vault", r"no-role.*nobody"),
    ("no-account", {}, "default", r"no-account.*(not authorized|permission denied)"),
    ("no-right", {"objects": OTHER_PATH}, "vault", r"no-right.*secret/data/other.*(permission denied|403)"),
    ("no-key", {"objects": OTHER_KEY}, "vault", r"no-key.*nothing"),
    ("no-audience", {"audience": "elsewhere"}, "vault", r"elsewhere.*tokenRequests"),
    ("no-escape", {"objects": ESCAPE}, "vault", r'no-escape.*must not contain "/"'),
    ("no-parameter", {"roleNam": "webapp"}, "vault", r"no-parameter.*roleNam.*unknown"),
    ("no-provider", {"provider": "azure"}, "vault", r"no-provider.*azure.*use vault or coffer"),
    ("no-keystore", {"vaultAddress": "http://127.0.0.1:1"}, "vault", r"no-keystore.*127\.0\.0\.1:1"),
]


def refused(world):
    for name, parameters, account, _ in CASES:
        if parameters is not None:
            world.secret_class(name, **parameters)
        world.pod(name, secret_class=name, account=account)
    world.pod("no-driver", driver="nothing.example")
    for name, _, _, pattern in [*CASES, ("no-driver", None, None, r"nothing\.example")]:
        print("    " + world.event(name, pattern)[-220:])
    for name in [case[0] for case in CASES] + ["no-driver"]:
        world.cluster.kubectl("delete", "pod", name, "--wait=false")
    for name in [case[0] for case in CASES] + ["no-driver"]:
        until(f"{name} gone", lambda pod=name: not world.cluster.get("pod", pod), 90)


def all_gone(world):
    for pod in ("steady", "patient", "webapp"):
        world.delete_pod(pod)
    until("no mount left", lambda: not world.mounts(), 30)
    world.helm("uninstall", "vault", "-n", "vault")
    world.delete_pod("vault-0", "vault")
    world.delete_pod("vault-csi-node-1", "vault")
    until("no program left", lambda: not world.processes("coffer-csi") + world.processes("coffer-keystore"), 60)


STEPS = [
    ("Pods that can't start say why on their events", refused),
    ("helm uninstall leaves nothing", all_gone),
]
