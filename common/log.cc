#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/json.h"

namespace coffer::log {
namespace {

std::atomic<Format> format_in_use{Format::kText};

spdlog::logger& Sink() {
  static auto* sink = [] {
    auto* logger =
        new spdlog::logger("coffer", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("%v");
    logger->set_level(spdlog::level::info);
    logger->flush_on(spdlog::level::trace);
    return logger;
  }();
  return *sink;
}

spdlog::level::level_enum ToSpdlog(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarning: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string_view LevelName(Level level) {
  switch (level) {
    case Level::kDebug: return "debug";
    case Level::kInfo: return "info";
    case Level::kWarning: return "warn";
    case Level::kError: return "error";
  }
  return "info";
}

// Quotes what a space, a quote or a control character would make ambiguous (logfmt).
std::string Quoted(std::string_view value) {
  const bool plain = !value.empty() && value.find_first_of(" =\"\\\t\r\n") == value.npos;
  if (plain) return std::string(value);
  const SecretString text =
      Json(value).dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  return std::string(std::string_view(text));
}

}  // namespace

void Configure(Level level, Format format) {
  format_in_use = format;
  Sink().set_level(ToSpdlog(level));
}

absl::Status ParseLevel(std::string_view text, Level* level) {
  if (text == "trace" || text == "debug") {
    *level = Level::kDebug;
  } else if (text == "info" || text.empty()) {
    *level = Level::kInfo;
  } else if (text == "warn" || text == "warning") {
    *level = Level::kWarning;
  } else if (text == "error" || text == "err") {
    *level = Level::kError;
  } else {
    return absl::InvalidArgumentError(
        StrCat("unknown log level \"", text, "\": use trace, debug, info, warn or error"));
  }
  return absl::OkStatus();
}

void Write(Level level, std::string_view message, std::initializer_list<Field> fields) {
  if (!Sink().should_log(ToSpdlog(level))) return;
  const std::string time =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  if (format_in_use == Format::kJson) {
    Json line = {{"@timestamp", time}, {"@level", LevelName(level)}, {"@message", message}};
    for (const Field& field : fields) line[field.key] = field.value;
    const SecretString text = line.dump(-1, ' ', false, Json::error_handler_t::replace);
    Sink().log(ToSpdlog(level), std::string_view(text));
    return;
  }
  std::string line = StrCat(time, " [", LevelName(level), "] ", message);
  for (const Field& field : fields) StrAppend(&line, " ", field.key, "=", Quoted(field.value));
  Sink().log(ToSpdlog(level), std::string_view(line));
}

}  // namespace coffer::log
