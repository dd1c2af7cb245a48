#include "keystore/auth/jwt.h"

#include <cmath>

#include "common/json_members.h"
#include "common/status_macros.h"

namespace coffer::keystore {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::PermissionDeniedError(StrCat("malformed JWT: ", what));
}

constexpr std::array<std::int8_t, 256> kBase64UrlValues = [] {
  std::array<std::int8_t, 256> values;
  values.fill(-1);
  std::int8_t next = 0;
  for (const unsigned char c :
       std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")) {
    values[c] = next++;
  }
  return values;
}();

// Strict: one alphabet, no padding, no bits left over. By table, for a login decodes a kilobyte and
// what a JWT says isn't secret; DecodeBase64 takes constant time, and twenty times as much.
absl::StatusOr<SecretBytes> DecodePart(std::string_view text, std::string_view what) {
  SecretBytes bytes(text.size() * 3 / 4);
  std::uint8_t* out = bytes.data();
  std::uint32_t bits = 0;
  int held = 0;
  bool valid = text.size() % 4 != 1;
  for (const unsigned char c : text) {
    const int value = kBase64UrlValues[c];
    valid &= value >= 0;
    bits = bits << 6 | static_cast<std::uint32_t>(value & 63);
    held += 6;
    if (held >= 8) {
      held -= 8;
      *out++ = static_cast<std::uint8_t>(bits >> held);
    }
  }
  if (valid && (bits & ((1U << held) - 1)) == 0) return bytes;
  return Malformed(StrCat("its ", what, " isn't base64url"));
}

absl::StatusOr<Json> DecodeObject(std::string_view text, std::string_view what) {
  ASSIGN_OR_RETURN(const SecretBytes bytes, DecodePart(text, what));
  absl::StatusOr<Json> document = ParseJson(bytes.view());
  if (!document.ok() || !document->is_object()) {
    return Malformed(StrCat("its ", what, " isn't a JSON object"));
  }
  return document;
}

// A NumericDate (RFC 7519 section 2); nullopt where the claim is absent.
absl::StatusOr<std::optional<absl::Time>> TimeClaim(const Json& claims, std::string_view name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::nullopt;
  const double seconds = found->is_number() ? found->get<double>() : NAN;
  if (!(std::abs(seconds) < 1e15)) {
    return Malformed(StrCat("its claim \"", name, "\" isn't a number of seconds"));
  }
  return absl::UnixEpoch() + absl::Seconds(seconds);
}

absl::Status Refused(const auto&... pieces) {
  return absl::PermissionDeniedError(StrCat("the JWT is refused: ", pieces...));
}

std::string Utc(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

absl::Status CheckTimes(const Json& claims, absl::Time now) {
  ASSIGN_OR_RETURN(const std::optional<absl::Time> expires, TimeClaim(claims, "exp"));
  ASSIGN_OR_RETURN(const std::optional<absl::Time> starts, TimeClaim(claims, "nbf"));
  ASSIGN_OR_RETURN(const std::optional<absl::Time> issued, TimeClaim(claims, "iat"));
  if (expires && now - kJwtLeeway >= *expires) return Refused("it expired at ", Utc(*expires));
  if (starts && now + kJwtLeeway < *starts) return Refused("it isn't valid before ", Utc(*starts));
  if (issued && now + kJwtLeeway < *issued) {
    return Refused("it was issued in the future, at ", Utc(*issued),
                   ": do the clocks of the issuer and the keystore agree?");
  }
  return absl::OkStatus();
}

absl::Status CheckAudience(const Json& claims, std::string_view audience) {
  ASSIGN_OR_RETURN(const std::vector<std::string> audiences, Audiences(claims));
  if (audiences.empty()) {
    return Refused("invalid audience (aud) claim: it has none, the role wants \"", audience, "\"");
  }
  if (std::find(audiences.begin(), audiences.end(), audience) != audiences.end()) {
    return absl::OkStatus();
  }
  return Refused("invalid audience (aud) claim: it isn't meant for \"", audience,
                 "\", the role's audience; pods get tokens of it where the CSIDriver's tokenRequests and "
                 "the class's audience name it");
}

}  // namespace

absl::StatusOr<Jwt> ParseJwt(std::string_view text) {
  if (text.size() > kMaxJwtSize) {
    return Malformed(StrCat("it is larger than ", kMaxJwtSize, " bytes"));
  }
  const std::size_t first = text.find('.');
  const std::size_t second = first == std::string_view::npos ? first : text.find('.', first + 1);
  if (second == std::string_view::npos || text.find('.', second + 1) != std::string_view::npos) {
    return Malformed("it must be three parts joined by dots");
  }
  ASSIGN_OR_RETURN(const Json header, DecodeObject(text.substr(0, first), "header"));
  Jwt jwt;
  jwt.algorithm = TextAt(header, "alg");
  if (jwt.algorithm.empty()) return Malformed("its header names no algorithm (alg)");
  if (const auto kid = header.find("kid"); kid != header.end()) {
    if (!kid->is_string()) return Malformed("its header's key id (kid) isn't text");
    jwt.key_id = TextAt(header, "kid");
  }
  if (header.contains("crit")) return Malformed("its header asks for an unknown extension (crit)");
  ASSIGN_OR_RETURN(jwt.claims,
                   DecodeObject(text.substr(first + 1, second - first - 1), "claims"));
  ASSIGN_OR_RETURN(jwt.signature, DecodePart(text.substr(second + 1), "signature"));
  jwt.signing_input = text.substr(0, second);
  return jwt;
}

absl::StatusOr<std::vector<std::string>> Audiences(const Json& claims) {
  std::vector<std::string> audiences;
  const auto found = claims.find("aud");
  if (found == claims.end()) return audiences;
  for (const Json& item : found->is_array() ? *found : Json::array({*found})) {
    if (!item.is_string()) return Malformed("its claim \"aud\" isn't a text or a list of texts");
    audiences.emplace_back(std::string_view(item.get_ref<const Json::string_t&>()));
  }
  return audiences;
}

absl::Status CheckClaims(const Json& claims, const ClaimRules& rules) {
  RETURN_IF_ERROR(CheckTimes(claims, rules.now));
  if (!rules.audience.empty()) RETURN_IF_ERROR(CheckAudience(claims, rules.audience));
  if (rules.issuer && TextAt(claims, "iss") != *rules.issuer) {
    return Refused("claim \"iss\" is invalid: it wasn't issued by \"", *rules.issuer, "\"");
  }
  return absl::OkStatus();
}

}  // namespace coffer::keystore
