#include "provider/bundle.h"

#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/format.h"

namespace coffer::provider {
namespace {

template <auto kFree>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

// Where the parts are looked for when the class doesn't say, the first that is there.
constexpr std::string_view kCertificateNames[] = {"certificate", "tls.crt", "cert", "crt"};
constexpr std::string_view kChainNames[] = {"ca_chain", "issuing_ca", "ca.crt", "chain", "ca"};
constexpr std::string_view kKeyNames[] = {"private_key", "tls.key", "key"};

struct Part {
  std::string name;
  const Json* value = nullptr;  // null = not there
};

struct Parts {
  Part certificate, key;
  std::vector<Certificate> chain;  // the certificate itself first
  Key private_key;                 // may be null
};

absl::Status Wrong(std::string_view key, std::string_view what) {
  ERR_clear_error();
  return absl::FailedPreconditionError(StrCat("key \"", key, "\" ", what));
}

const Json* Member(const Json& secret, std::string_view name) {
  const auto found = secret.find(SecretString(name));
  return found == secret.end() || found->is_null() ? nullptr : &*found;
}

// The part that the class names, or the first of the usual ones that isn't empty.
absl::StatusOr<Part> Find(const Json& secret, const std::string& named,
                          std::span<const std::string_view> usual) {
  if (!named.empty()) {
    const Json* value = Member(secret, named);
    if (value != nullptr) return Part{named, value};
    return absl::NotFoundError(StrCat("key \"", named, "\" does not exist in the secret"));
  }
  for (const std::string_view name : usual) {
    const Json* value = Member(secret, name);
    const bool empty = value != nullptr && (value->empty() || (value->is_string() &&
                           value->get_ref<const SecretString&>().empty()));
    if (value != nullptr && !empty) return Part{std::string(name), value};
  }
  return Part{};
}

Bio BioOf(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// The certificates of one text, or of a list of texts.
absl::Status AppendCertificates(const Part& part, std::vector<Certificate>* out) {
  if (part.value->is_array()) {
    for (const Json& entry : *part.value) RETURN_IF_ERROR(AppendCertificates({part.name, &entry}, out));
    return absl::OkStatus();
  }
  if (!part.value->is_string()) return Wrong(part.name, "must be text in PEM");
  const Bio bio = BioOf(part.value->get_ref<const SecretString&>());
  const std::size_t before = out->size();
  while (X509* read = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    out->emplace_back(read);
  }
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!ended) return Wrong(part.name, "has a PEM block that is no certificate");
  if (out->size() == before) return Wrong(part.name, "has no certificate in PEM");
  return absl::OkStatus();
}

absl::StatusOr<Key> ReadKey(const Part& part) {
  if (!part.value->is_string()) return Wrong(part.name, "must be text in PEM");
  const Bio bio = BioOf(part.value->get_ref<const SecretString&>());
  bool asked = false;  // for a password
  const auto no_password = [](char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
  };
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, &asked));
  if (asked) return Wrong(part.name, "is encrypted: store the private key without a password");
  if (key == nullptr) return Wrong(part.name, "has no private key in PEM");
  return key;
}

// Puts the certificate that the key belongs to first, then its issuer, and so on; each once. What
// is no issuer of those before it keeps its place behind them.
void Order(const EVP_PKEY* key, std::vector<Certificate>* chain) {
  std::vector<Certificate> rest = std::move(*chain);
  chain->clear();
  const auto take = [&](std::size_t i) {
    Certificate taken = std::move(rest[i]);
    std::erase_if(rest, [&](const Certificate& other) {
      return other == nullptr || X509_cmp(other.get(), taken.get()) == 0;
    });
    chain->push_back(std::move(taken));
  };
  std::size_t next = 0;
  for (std::size_t i = 0; key != nullptr && i < rest.size(); ++i) {
    if (X509_check_private_key(rest[i].get(), key) == 1) {
      next = i;
      break;
    }
  }
  ERR_clear_error();
  while (!rest.empty()) {
    take(next);
    const auto issuer = std::find_if(rest.begin(), rest.end(), [&](const Certificate& other) {
      return X509_check_issued(other.get(), chain->back().get()) == X509_V_OK;
    });
    next = issuer == rest.end() ? 0 : static_cast<std::size_t>(issuer - rest.begin());
  }
}

absl::StatusOr<Parts> ReadParts(const Json& secret, const BundleKeys& names) {
  if (!secret.is_object()) return absl::NotFoundError("the answer has no keys");
  Parts parts;
  ASSIGN_OR_RETURN(parts.certificate, Find(secret, names.certificate, kCertificateNames));
  ASSIGN_OR_RETURN(parts.key, Find(secret, names.key, kKeyNames));
  ASSIGN_OR_RETURN(const Part chain, Find(secret, names.chain, kChainNames));
  if (parts.certificate.value == nullptr) {
    return absl::NotFoundError(
        "the secret has no certificate: name its key in bundle.certificate");
  }
  RETURN_IF_ERROR(AppendCertificates(parts.certificate, &parts.chain));
  if (parts.key.value != nullptr) {
    ASSIGN_OR_RETURN(parts.private_key, ReadKey(parts.key));
  }
  if (chain.value != nullptr) RETURN_IF_ERROR(AppendCertificates(chain, &parts.chain));
  Order(parts.private_key.get(), &parts.chain);
  if (parts.private_key != nullptr &&
      X509_check_private_key(parts.chain.front().get(), parts.private_key.get()) != 1) {
    return Wrong(parts.key.name, StrCat("isn't the private key of the certificate in key \"",
                                        parts.certificate.name, "\""));
  }
  return parts;
}

absl::StatusOr<SecretBytes> MakePem(const Parts& parts) {
  const Bio bio(BIO_new(BIO_s_mem()));
  for (const Certificate& certificate : parts.chain) {
    PEM_write_bio_X509(bio.get(), certificate.get());
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  SecretBytes pem = SecretBytes::CopyOf(std::string_view(data, static_cast<std::size_t>(size)));
  if (parts.key.value != nullptr) {  // as it is: some programs read one form alone
    pem.Append(Trim(parts.key.value->get_ref<const SecretString&>()));
    pem.Append("\n");
  }
  return pem;
}

// OpenSSL's DER of something, wiped and given back at the end.
template <class Object, class Writer>
SecretBytes Der(Writer writer, Object* object) {
  unsigned char* bytes = nullptr;
  const int size = writer(object, &bytes);
  if (size <= 0) return SecretBytes();
  SecretBytes der = SecretBytes::CopyOf(std::span<const std::uint8_t>(bytes, static_cast<std::size_t>(size)));
  OPENSSL_clear_free(bytes, static_cast<std::size_t>(size));
  return der;
}

// Salts and the initialisation vector: pseudorandom to all who don't have the private key, and
// other ones for each password and certificate.
struct Salts {
  std::uint8_t key[16], iv[16], mac[16], id[16];
};

Salts SaltsFor(const Parts& parts, const SecretBytes& password) {
  Salts salts;
  const SecretBytes key = Der(i2d_PrivateKey, parts.private_key.get());
  SecretBytes message = SecretBytes::CopyOf(StrCat(password.size(), ":"));
  message.Append(password.view());
  for (const Certificate& certificate : parts.chain) {
    message.Append(Der(i2d_X509, certificate.get()).view());
  }
  std::uint8_t number = 0;
  for (std::uint8_t(*salt)[16] : {&salts.key, &salts.iv, &salts.mac, &salts.id}) {
    SecretBytes input = SecretBytes::CopyOf(std::span<const std::uint8_t>(&number, 1));
    input.Append(message.view());
    std::uint8_t digest[32];
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), input.data(), input.size(), digest,
         nullptr);
    std::copy_n(digest, 16, *salt);
    ++number;
  }
  return salts;
}

void FreeBags(STACK_OF(PKCS12_SAFEBAG) * bags) { sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free); }
void FreeSafes(STACK_OF(PKCS7) * safes) { sk_PKCS7_pop_free(safes, PKCS7_free); }
using Bags = std::unique_ptr<STACK_OF(PKCS12_SAFEBAG), Freed<FreeBags>>;
using Safes = std::unique_ptr<STACK_OF(PKCS7), Freed<FreeSafes>>;

// The private key under the password, in a bag; null when OpenSSL can't.
PKCS12_SAFEBAG* KeyBag(EVP_PKEY* key, std::string_view password, Salts& salts) {
  const std::unique_ptr<PKCS8_PRIV_KEY_INFO, Freed<PKCS8_PRIV_KEY_INFO_free>> plain(
      EVP_PKEY2PKCS8(key));
  X509_ALGOR* cipher = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), PKCS12_DEFAULT_ITER, salts.key,
                                         sizeof(salts.key), salts.iv, NID_hmacWithSHA256);
  if (plain == nullptr || cipher == nullptr) return nullptr;
  X509_SIG* sealed = PKCS8_set0_pbe(password.data(), static_cast<int>(password.size()), plain.get(),
                                    cipher);
  if (sealed != nullptr) return PKCS12_SAFEBAG_create0_pkcs8(sealed);
  X509_ALGOR_free(cipher);
  return nullptr;
}

// Two safes, as the readers that are out there expect: certificates, key.
bool FillSafes(const Parts& parts, const std::string& name, std::string_view password, Salts& salts,
               STACK_OF(PKCS7) * safes) {
  STACK_OF(PKCS12_SAFEBAG)* certificates = nullptr;
  bool good = true;
  for (const Certificate& certificate : parts.chain) {
    PKCS12_SAFEBAG* bag = PKCS12_add_cert(&certificates, certificate.get());
    good = good && bag != nullptr;
    if (!good || certificate != parts.chain.front()) continue;
    good = PKCS12_add_localkeyid(bag, salts.id, sizeof(salts.id)) == 1 &&
           PKCS12_add_friendlyname_utf8(bag, name.c_str(), -1) == 1;
  }
  const Bags certificate_bags(certificates);
  const Bags key_bags(sk_PKCS12_SAFEBAG_new_null());
  PKCS12_SAFEBAG* key = good ? KeyBag(parts.private_key.get(), password, salts) : nullptr;
  if (key == nullptr) return false;
  sk_PKCS12_SAFEBAG_push(key_bags.get(), key);
  if (PKCS12_add_localkeyid(key, salts.id, sizeof(salts.id)) != 1 ||
      PKCS12_add_friendlyname_utf8(key, name.c_str(), -1) != 1) {
    return false;
  }
  for (STACK_OF(PKCS12_SAFEBAG) * bags : {certificate_bags.get(), key_bags.get()}) {
    PKCS7* safe = PKCS12_pack_p7data(bags);
    if (safe == nullptr) return false;
    sk_PKCS7_push(safes, safe);
  }
  return true;
}

absl::StatusOr<SecretBytes> MakePkcs12(const Json& secret, const Object& object,
                                       const Parts& parts) {
  if (parts.private_key == nullptr) {
    return absl::NotFoundError("the secret has no private key: name its key in bundle.key");
  }
  SecretBytes password;
  if (!object.bundle.password.empty()) {
    ASSIGN_OR_RETURN(const Part part, Find(secret, object.bundle.password, {}));
    if (!part.value->is_string()) return Wrong(part.name, "must be text: it is the password");
    password = ValueText(*part.value);
  }
  // Some functions want a pointer even to no bytes.
  const std::string_view text = password.empty() ? std::string_view("") : password.view();
  Salts salts = SaltsFor(parts, password);
  const Safes safes(sk_PKCS7_new_null());
  std::unique_ptr<PKCS12, Freed<PKCS12_free>> bundle;
  if (FillSafes(parts, object.name, text, salts, safes.get())) {
    bundle.reset(PKCS12_add_safes(safes.get(), 0));
  }
  SecretBytes der;
  if (bundle != nullptr &&
      PKCS12_set_mac(bundle.get(), text.data(), static_cast<int>(text.size()), salts.mac,
                     sizeof(salts.mac), PKCS12_DEFAULT_ITER, EVP_sha256()) == 1) {
    der = Der(i2d_PKCS12, bundle.get());
  }
  if (!der.empty()) return der;
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return absl::FailedPreconditionError(
      StrCat("PKCS #12 can't be made of this: ", reason == nullptr ? "unknown reason" : reason));
}

}  // namespace

absl::StatusOr<SecretBytes> MakeBundle(const Json& secret, const Object& object) {
  ERR_clear_error();
  ASSIGN_OR_RETURN(const Parts parts, ReadParts(secret, object.bundle));
  return object.format == Format::kPem ? MakePem(parts) : MakePkcs12(secret, object, parts);
}

}  // namespace coffer::provider
