# A Coffer keystore on one machine: coffer-keystore -config=deploy/keystore.hcl
# The settings are Vault's; the same in JSON works too. Durations are "1h30m" or seconds, sizes bytes
# or "32MB". What is commented out shows the default.

# Everything is in this folder, encrypted, names as well as values. Back it up while it is stopped.
storage "lmdb" {
  path = "/var/lib/coffer"
  # map_size = "64GiB"   # the most it may grow to; no disk is used before it is needed
}

# One block for each address.
listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/coffer/tls.crt"   # the certificate, then its chain
  tls_key_file  = "/etc/coffer/tls.key"
  # tls_min_version  = "tls12"
  # max_request_size = "32MiB"

  # For a proxy in front that ends TLS: believe its X-Forwarded-For.
  # x_forwarded_for_authorized_addrs = ["10.0.0.0/8"]
}

# For a laptop: no TLS, on this machine only.
# listener "tcp" {
#   address     = "127.0.0.1:8200"
#   tls_disable = true
# }

ui       = true
api_addr = "https://keystore.example.com:8200"   # where clients reach this keystore

# cluster_name      = "shop"   # counts when it is initialised; otherwise vault-cluster-…
# default_lease_ttl = "768h"   # of tokens where neither role nor mount says anything
# max_lease_ttl     = "768h"   # of tokens of mounts that aren't tuned
# log_level         = "info"
# log_format        = "standard"   # or "json"

# Secrets live in locked memory; this only silences the wish for it where the container may not lock.
# disable_mlock = true
