// Console: standard input, output and error of the person's shell, handed in so that tests can look.
// Text goes out as it is given: secrets are printed from locked memory, without a copy in a stream.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/secret_bytes.h"

namespace coffer::cli {

class Console {
 public:
  // File descriptors that stay the caller's.
  Console(int in, int out, int err);
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // A line on standard output.
  void Line(std::string_view text);
  // Text on standard output, with a line end only on a terminal: for values that are piped on.
  void Value(std::string_view text);
  // A line on standard error, yellow or red on a terminal.
  void Warn(std::string_view text);
  void Error(std::string_view text);
  // How far something is, on standard error: on a terminal in place of what was said last, else as a
  // line every five seconds.
  void Progress(std::string_view text);

  // All of standard input (at most 64 MiB), which can be taken once. FailedPrecondition: it was taken
  // before, or -non-interactive was given.
  absl::StatusOr<SecretBytes> ReadAll();
  // One hidden line from the terminal, or all of standard input where it is no terminal; without
  // white space at both ends. FailedPrecondition as in ReadAll; Cancelled: end of input at once.
  absl::StatusOr<SecretBytes> Ask(std::string_view question);

  // Nothing is read from here on (-non-interactive); no colours (-no-color); nothing is printed (the
  // request is only shown: -output-curl-string).
  void RefuseInput() { refuse_input_ = true; }
  void DropColor() { color_ = false; }
  void Mute(bool mute) { muted_ = mute; }

 private:
  void Write(int fd, std::string_view text);
  void ClearProgress();
  absl::Status TakeInput();

  const int in_, out_, err_;
  const bool terminal_;  // standard error is one
  bool color_;
  bool progress_ = false;  // stands in the terminal's last line
  absl::Time progress_due_;
  bool taken_ = false, refuse_input_ = false, muted_ = false;
};

}  // namespace coffer::cli
