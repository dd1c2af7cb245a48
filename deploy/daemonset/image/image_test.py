#!/usr/bin/env python3
"""What holds of the image: the same bytes from the same inputs, nothing in it but what runs, and a bill
of materials that names it. Takes buildah, spdx-tools and built programs: image_test.py BIN_DIR
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest

from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

BIN_DIR = os.path.abspath(sys.argv.pop(1))
HERE = os.path.dirname(os.path.abspath(__file__))


def build(folder):
    out = os.path.join(folder, "coffer.tar")
    subprocess.run([os.path.join(HERE, "build"), "--bin", BIN_DIR, "--name", "coffer.test/coffer:1",
                    "--out", out], check=True, capture_output=True)
    return out


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.archive = build(cls.folder.name)
        with tarfile.open(cls.archive) as archive:
            blob = lambda digest: archive.extractfile("blobs/" + digest.replace(":", "/")).read()
            cls.index = json.load(archive.extractfile("index.json"))
            manifest = json.loads(blob(cls.index["manifests"][0]["digest"]))
            cls.config = json.loads(blob(manifest["config"]["digest"]))
            cls.layers = [tarfile.open(fileobj=io.BytesIO(blob(layer["digest"])))
                          for layer in manifest["layers"]]
        cls.files = {m.name.strip("./"): (m, layer) for layer in cls.layers for m in layer}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_the_same_inputs_give_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as other:
            digests = []
            for path in (self.archive, build(other)):
                with open(path, "rb") as file:
                    digests.append(hashlib.sha256(file.read()).hexdigest())
            self.assertEqual(*digests)

    def test_it_can_be_pushed(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([os.path.join(HERE, "build"), "--bin", BIN_DIR, "--out", folder + "/i.tar",
                            "--push", f"oci:{folder}/pushed:1"], check=True, capture_output=True)
            with open(folder + "/pushed/index.json", encoding="utf-8") as file:
                manifest, = json.load(file)["manifests"]
            with tarfile.open(folder + "/i.tar") as archive:
                built, = json.load(archive.extractfile("index.json"))["manifests"]
            with open(f"{folder}/pushed/blobs/" + manifest["digest"].replace(":", "/"), encoding="utf-8") as file:
                config = json.load(file)["config"]["digest"]
            with tarfile.open(folder + "/i.tar") as archive:
                same = json.load(archive.extractfile("blobs/" + built["digest"].replace(":", "/")))
            self.assertEqual(config, same["config"]["digest"])

    def test_it_is_small(self):
        self.assertLess(os.path.getsize(self.archive), 60_000_000)

    def test_it_runs_without_root_by_default(self):
        config = self.config["config"]
        self.assertEqual(config["User"], "100:1000")
        self.assertEqual(config["Entrypoint"], ["/usr/bin/coffer-keystore"])
        self.assertEqual(self.index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
                         "coffer.test/coffer:1")
        for label in ("title", "version", "revision", "created", "description"):
            self.assertTrue(config["Labels"][f"org.opencontainers.image.{label}"])

    def test_vault_is_coffer(self):
        self.assertEqual(self.files["usr/bin/vault"][0].linkname, "coffer")

    def test_only_its_own_folders_belong_to_the_user(self):
        owned = {name for name, (member, _) in self.files.items() if (member.uid, member.gid) != (0, 0)}
        self.assertEqual(owned, {"home/vault", "vault/data"})

    def test_nothing_is_setuid_or_writable_by_others(self):
        for name, (member, _) in self.files.items():
            if not member.issym():
                self.assertEqual(member.mode & 0o6022, 0, name)

    def test_programs_start(self):
        root = tempfile.TemporaryDirectory()
        self.addCleanup(root.cleanup)
        for layer in self.layers:
            layer.extractall(root.name)
        for command in (["coffer", "version"], ["vault", "version"], ["coffer-keystore", "-version"],
                        ["coffer-csi", "--version"], ["coffer-keeper", "-version"], ["sh", "-c", "vault version"]):
            done = subprocess.run(["chroot", root.name, *command], capture_output=True, text=True,
                                  env={"PATH": "/usr/bin:/usr/sbin"}, check=False)
            self.assertEqual(done.returncode, 0, f"{command}: {done.stderr}")

    def test_the_bill_of_materials_is_valid_spdx(self):
        document = parse_file(self.archive.removesuffix(".tar") + ".spdx.json")
        self.assertEqual([m.validation_message for m in validate_full_spdx_document(document, "SPDX-2.3")], [])

    def test_the_bill_of_materials_names_every_library(self):
        member, layer = self.files["usr/share/sbom/coffer.spdx.json"]
        sbom = json.load(layer.extractfile(member))
        self.assertEqual(sbom["spdxVersion"], "SPDX-2.3")
        with open(self.archive.removesuffix(".tar") + ".spdx.json", encoding="utf-8") as file:
            self.assertEqual(json.load(file), sbom)
        names = {package["name"] for package in sbom["packages"]}
        self.assertLessEqual({"coffer", "libc6", "libssl3", "libstdc++-12-dev", "dash", "ca-certificates",
                              "liblmdb-dev", "libgrpc++-dev", "libre2-dev", "libc6-dev"}, names)
        ids = {entry["SPDXID"] for kind in ("packages", "files") for entry in sbom[kind]}
        for relation in sbom["relationships"]:
            self.assertIn(relation["relatedSpdxElement"], ids)
        digest = {file["fileName"]: file["checksums"][1]["checksumValue"] for file in sbom["files"]}
        for name in ("coffer", "coffer-keystore", "coffer-csi", "coffer-keeper"):
            member, layer = self.files[f"usr/bin/{name}"]
            self.assertEqual(hashlib.sha256(layer.extractfile(member).read()).hexdigest(),
                             digest[f"./usr/bin/{name}"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
