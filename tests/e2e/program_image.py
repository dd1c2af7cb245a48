"""An OCI archive of one static program: what the test cluster's pods run beside Coffer's own image."""

import gzip
import hashlib
import io
import json
import tarfile


def _add(archive, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def write_program_image(program, image_name, arguments, out):
    """`program` becomes /app, started with `arguments`, as user 1234."""
    with open(program, "rb") as file:
        binary = file.read()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        _add(archive, "app", binary, 0o755)
    blobs = {}

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image."
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/app", *arguments], "User": "1234"},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}}
    manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
                "config": blob(json.dumps(config).encode(), kind + "config.v1+json"),
                "layers": [blob(gzip.compress(layer.getvalue(), 1, mtime=0), kind + "layer.v1.tar+gzip")]}
    index = {"schemaVersion": 2, "manifests": [{
        **blob(json.dumps(manifest).encode(), kind + "manifest.v1+json"),
        "annotations": {"io.containerd.image.name": image_name}}]}
    with tarfile.open(out, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", data)
    return out
