// For tests: a shell with an input, variables and a home of its own, and a transport that answers from
// a script and keeps what it was asked.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "cli/dispatch.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer::cli {

// What one run left behind.
struct Outcome {
  int code = 0;
  std::string out, err;
  std::vector<std::string> requests;  // "METHOD url body"
};

class ScriptedTransport : public HttpTransport {
 public:
  struct Answer {
    int status = 200;
    std::string body;
    std::string location;
  };

  ScriptedTransport(std::vector<Answer> answers, std::vector<std::string>* requests,
                    std::vector<std::string>* headers)
      : answers_(std::move(answers)), requests_(requests), headers_(headers) {}

  absl::StatusOr<HttpResponse> Send(const HttpRequest& request) override {
    requests_->push_back(StrCat(request.method, " ", request.url, request.body.empty() ? "" : " ",
                                request.body.view()));
    for (const HttpHeader& header : request.headers) {
      headers_->push_back(StrCat(header.name, ": ", header.value.view()));
    }
    if (next_ >= answers_.size()) return absl::UnavailableError("can't connect");
    const Answer& answer = answers_[next_++];
    if (answer.status == 0) return absl::UnavailableError(answer.body);
    HttpResponse response;
    response.status = answer.status;
    response.body = SecretBytes::CopyOf(answer.body);
    if (!answer.location.empty()) {
      response.headers.push_back({"Location", SecretBytes::CopyOf(answer.location)});
    }
    return response;
  }

 private:
  const std::vector<Answer> answers_;
  std::size_t next_ = 0;
  std::vector<std::string>* const requests_;
  std::vector<std::string>* const headers_;
};

inline UniqueFd MemoryFile(std::string_view text = "") {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  if (write(fd.get(), text.data(), text.size()) < 0) return {};
  lseek(fd.get(), 0, SEEK_SET);
  return fd;
}

inline std::string Contents(int fd) {
  std::string text(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
  return pread(fd, text.data(), text.size(), 0) < 0 ? "" : text;
}

class TestShell {
 public:
  std::map<std::string, std::string> variables = {{"VAULT_ADDR", "http://v:8200"}};
  std::vector<ScriptedTransport::Answer> answers;
  std::vector<std::string> headers;  // of all requests, "Name: value"
  TlsClientOptions tls;              // what the last run asked for
  std::string input;

  Outcome Run(std::vector<std::string> args) {
    Outcome outcome;
    headers.clear();
    const UniqueFd in = MemoryFile(input), out = MemoryFile(), err = MemoryFile();
    Console console(in.get(), out.get(), err.get());
    const Environment environment([this](const char* name) {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
    outcome.code = Dispatch("vault", std::move(args), console, environment,
                            [&](const TlsClientOptions& options) {
                              tls = options;
                              return std::make_unique<ScriptedTransport>(
                                  answers, &outcome.requests, &headers);
                            });
    outcome.out = Contents(out.get());
    outcome.err = Contents(err.get());
    return outcome;
  }
};

}  // namespace coffer::cli
