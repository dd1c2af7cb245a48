#include "csi/admin.h"

#include <openssl/sha.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/numbers.h"
#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/version.h"
#include "csi/volume_context.h"

namespace coffer::csi {
namespace {

// As long as the kubelet waits, nearly.
constexpr absl::Duration kLongestPublish = absl::Seconds(110);

Json Text(std::string_view text) { return SecretString(text); }

void AddText(std::string_view text, const char* name, Json* object) {
  if (!text.empty()) (*object)[name] = Text(text);
}

void AddTime(absl::Time time, const char* name, Json* object) {
  if (time == absl::InfinitePast()) return;
  AddText(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()), name, object);
}

void AddRecord(const VolumeRecord& record, Json* volume) {
  AddText(record.pod, "pod", volume);
  AddText(record.kubernetes_namespace, "namespace", volume);
  AddText(record.pod_uid, "pod_uid", volume);
  AddText(record.service_account, "service_account", volume);
  AddText(record.secret_class, "class", volume);
  AddText(record.provider, "provider", volume);
  for (const provider::ObjectVersion& object : record.versions) {
    (*volume)["objects"].push_back({{"id", Text(object.id)}, {"version", Text(object.version)}});
  }
  AddTime(record.published, "published", volume);
  AddTime(record.fetched, "fetched", volume);
  AddTime(record.rotated, "rotated", volume);
  AddTime(record.failed, "failed", volume);
  AddText(record.error, "error", volume);
  const LastReader& reader = record.reader;
  if (reader.time == absl::InfinitePast()) return;
  Json& shown = (*volume)["reader"];
  AddText(reader.file, "file", &shown);
  if (reader.pid != 0) shown["pid"] = reader.pid;
  if (reader.uid != volume::Opener::kUnknownId) shown["uid"] = reader.uid;
  AddText(reader.command, "command", &shown);
  AddText(reader.container, "container", &shown);
  AddTime(reader.time, "time", &shown);
}

// The last time that any file of a class was opened, by "namespace/class".
std::map<std::string, absl::Time> LastReads(const ReadTimes& read_times) {
  std::map<std::string, absl::Time> reads;
  for (const ReadTime& file : read_times.All()) {
    const auto at =
        reads.emplace(StrCat(file.kubernetes_namespace, "/", file.secret_class), file.last_read)
            .first;
    at->second = std::max(at->second, file.last_read);
  }
  return reads;
}

Json Status(const AdminParts& parts) {
  const std::map<std::string, absl::Time> reads = LastReads(parts.read_times);
  std::map<std::string, Json> volumes;
  for (const volume::VolumeInfo& info : parts.volumes.List()) {
    Json& volume = volumes[info.target];
    volume = {{"volume_id", Text(info.volume_id)}, {"mounted", true}};
    AddText(info.pod.name, "pod", &volume);
    AddText(info.pod.kubernetes_namespace, "namespace", &volume);
    AddText(info.pod.uid, "pod_uid", &volume);
    AddText(info.pod.secret_class, "class", &volume);
  }
  for (const auto& [target, record] : parts.records.All()) {
    Json& volume = volumes[target];
    volume.emplace("mounted", false);
    AddRecord(record, &volume);
    const auto read = reads.find(StrCat(record.kubernetes_namespace, "/", record.secret_class));
    if (read != reads.end()) AddTime(read->second, "last_read", &volume);
  }
  Json status = {{"driver", Text(parts.driver)},   {"node", Text(parts.node)},
                 {"version", Text(kVersion)},      {"pid", getpid()},
                 {"facts", Json::object()},        {"volumes", Json::array()}};
  for (const auto& [name, value] : parts.facts) status["facts"][Json::string_t(name)] = Text(value());
  for (auto& [target, volume] : volumes) {
    volume["target"] = Text(target);
    status["volumes"].push_back(std::move(volume));
  }
  return status;
}

absl::StatusOr<Json> Unused(const AdminParts& parts, const AdminServer::Request& request) {
  const auto given = request.query.find("days");
  int days = 0;
  if (given == request.query.end() || !absl::SimpleAtoi(ToAbsl(given->second), &days) || days < 1) {
    return absl::InvalidArgumentError("days must be a whole number above 0");
  }
  Json files = Json::array();
  for (const ReadTime& file : parts.read_times.Unused(absl::Hours(24) * days)) {
    Json entry = {{"namespace", Text(file.kubernetes_namespace)},
                  {"class", Text(file.secret_class)},
                  {"file", Text(file.file)}};
    AddTime(file.published, "published", &entry);
    AddTime(file.last_read, "last_read", &entry);
    files.push_back(std::move(entry));
  }
  return Json{{"days", days}, {"files", std::move(files)}};
}

// The kubelet names a volume by a hash, too.
std::string VolumeIdFor(const AdminParts& parts, const std::string& target, std::string_view given) {
  if (!given.empty()) return std::string(given);
  for (const volume::VolumeInfo& info : parts.volumes.List()) {
    if (info.target == target) return info.volume_id;
  }
  std::uint8_t hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const std::uint8_t*>(target.data()), target.size(), hash);
  return StrCat("coffer-", EncodeHex(hash).view());
}

struct Call {
  std::string target;
  std::string volume_id;

  Json Answer() const { return {{"target", Text(target)}, {"volume_id", Text(volume_id)}}; }
};

absl::StatusOr<Call> ReadCall(const AdminParts& parts, const Json& body) {
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  Call call{std::string(TextAt(body, "target")), ""};
  while (call.target.size() > 1 && call.target.ends_with('/')) call.target.pop_back();
  if (call.target.empty()) return absl::InvalidArgumentError("target is missing");
  call.volume_id = VolumeIdFor(parts, call.target, TextAt(body, "volume_id"));
  if (call.volume_id.size() > 128) {
    return absl::InvalidArgumentError("volume_id is longer than 128 bytes");
  }
  for (const unsigned char c : call.volume_id) {
    if (c < 0x20 || c == 0x7f) {
      return absl::InvalidArgumentError("volume_id has a control character in it");
    }
  }
  return call;
}

// By the kubelet's own path, so that the same is checked.
absl::StatusOr<VolumeContext> ReadContext(const Json& body) {
  SecretBytes tokens;
  if (const auto found = body.find("tokens"); found != body.end()) {
    Json by_audience = Json::object();
    for (const auto& [audience, token] : found->items()) {
      by_audience[audience] = {{"token", token}};
    }
    tokens = DumpJson(by_audience);
  }
  ASSIGN_OR_RETURN(
      VolumeContext context,
      ReadVolumeContext([&](const std::string& key) -> std::string_view {
        if (key == kTokensKey) return tokens.view();
        if (key == "secretProviderClass") return TextAt(body, "class");
        if (key == "csi.storage.k8s.io/pod.name") return TextAt(body, "pod");
        if (key == "csi.storage.k8s.io/pod.namespace") return TextAt(body, "namespace");
        if (key == "csi.storage.k8s.io/pod.uid") return TextAt(body, "pod_uid");
        if (key == "csi.storage.k8s.io/serviceAccount.name") return TextAt(body, "service_account");
        return "";
      }));
  RETURN_IF_ERROR(ReadMountGroup(TextAt(body, "fs_group"), &context));
  context.attributes = {{"secretProviderClass", context.secret_class},
                        {"csi.storage.k8s.io/pod.name", context.pod.name},
                        {"csi.storage.k8s.io/pod.namespace", context.pod.kubernetes_namespace},
                        {"csi.storage.k8s.io/pod.uid", context.pod.uid},
                        {"csi.storage.k8s.io/serviceAccount.name", context.pod.service_account},
                        {"csi.storage.k8s.io/ephemeral", "true"}};
  return context;
}

void LogCall(std::string_view what, const Call& call, const absl::Status& status) {
  log::Write(status.ok() ? log::Level::kInfo : log::Level::kWarning, what,
             {{"volume", call.volume_id}, {"target", call.target}, {"status", status}});
}

absl::StatusOr<Json> Publish(const AdminParts& parts, const Json& body) {
  ASSIGN_OR_RETURN(const Call call, ReadCall(parts, body));
  ASSIGN_OR_RETURN(VolumeContext context, ReadContext(body));
  const absl::Status published = parts.publisher.Publish(call.volume_id, call.target, context,
                                                         parts.clock.Now() + kLongestPublish,
                                                         Publisher::Caller::kPerson);
  LogCall("publish by the admin socket", call, published);
  RETURN_IF_ERROR(published);
  return call.Answer();
}

absl::StatusOr<Json> Unpublish(const AdminParts& parts, const Json& body) {
  ASSIGN_OR_RETURN(const Call call, ReadCall(parts, body));
  const absl::Status unpublished = parts.publisher.Unpublish(call.volume_id, call.target);
  LogCall("unpublish by the admin socket", call, unpublished);
  RETURN_IF_ERROR(unpublished);
  return call.Answer();
}

}  // namespace

AdminServer::Routes AdminRoutes(AdminParts parts) {
  const auto shared = std::make_shared<const AdminParts>(std::move(parts));
  using Request = AdminServer::Request;
  return {
      {"GET /v1/status", [shared](const Request&) { return Status(*shared); }},
      {"GET /v1/unused", [shared](const Request& r) { return Unused(*shared, r); }},
      {"POST /v1/publish", [shared](const Request& r) { return Publish(*shared, r.body); }},
      {"POST /v1/unpublish", [shared](const Request& r) { return Unpublish(*shared, r.body); }},
  };
}

}  // namespace coffer::csi
