#include "cli/console.h"

#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::size_t kMaxInput = 64 << 20;

constexpr absl::Duration kProgressOnTerminal = absl::Milliseconds(100);
constexpr absl::Duration kProgressLines = absl::Seconds(5);

constexpr char kInterrupt = '\x03';  // Ctrl-C

// Turns the terminal's echo off while it lives. Ctrl-C ends the line instead of the process, which
// would leave the terminal without echo.
class HiddenInput {
 public:
  explicit HiddenInput(int fd) : fd_(fd) {
    hidden_ = tcgetattr(fd_, &before_) == 0;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    quiet.c_lflag &= ~static_cast<tcflag_t>(ISIG);
    quiet.c_lflag |= ICANON;
    quiet.c_cc[VEOL] = kInterrupt;
    if (hidden_) tcsetattr(fd_, TCSAFLUSH, &quiet);
  }
  ~HiddenInput() {
    if (hidden_) tcsetattr(fd_, TCSAFLUSH, &before_);
  }
  HiddenInput(const HiddenInput&) = delete;
  HiddenInput& operator=(const HiddenInput&) = delete;

 private:
  const int fd_;
  bool hidden_ = false;
  termios before_{};
};

// Reads until the end, or until a line end where `one_line`.
absl::StatusOr<SecretBytes> ReadFrom(int fd, bool one_line) {
  SecretBytes text;
  SecretBytes block(one_line ? 1 : 64 << 10);
  for (;;) {
    const ssize_t count = read(fd, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return absl::UnavailableError(StrCat("Failed to read from stdin: ", std::strerror(errno)));
    }
    if (count == 0) return text;
    text.Append(block.view().substr(0, count));
    if (one_line && (text.view().back() == '\n' || text.view().back() == kInterrupt)) return text;
    if (text.size() > kMaxInput) {
      return absl::ResourceExhaustedError("Failed to read from stdin: it holds over 64 MiB");
    }
  }
}

}  // namespace

Console::Console(int in, int out, int err)
    : in_(in),
      out_(out),
      err_(err),
      terminal_(isatty(err) == 1),
      color_(terminal_),
      progress_due_(absl::Now() + (terminal_ ? absl::ZeroDuration() : kProgressLines)) {}

void Console::Write(int fd, std::string_view text) {
  ClearProgress();
  while (!text.empty() && !muted_) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;  // a closed pipe: nobody is left to be told
    text.remove_prefix(count);
  }
}

void Console::Line(std::string_view text) {
  Write(out_, text);
  Write(out_, "\n");
}

void Console::Value(std::string_view text) {
  Write(out_, text);
  if (isatty(out_) == 1) Write(out_, "\n");
}

void Console::Warn(std::string_view text) {
  Write(err_, color_ ? StrCat("\033[33m", text, "\033[0m\n") : StrCat(text, "\n"));
}

void Console::Error(std::string_view text) {
  Write(err_, color_ ? StrCat("\033[31m", text, "\033[0m\n") : StrCat(text, "\n"));
}

void Console::Progress(std::string_view text) {
  const absl::Time now = absl::Now();
  if (now < progress_due_) return;
  progress_due_ = now + (terminal_ ? kProgressOnTerminal : kProgressLines);
  Write(err_, terminal_ ? std::string(text) : StrCat(text, "\n"));
  progress_ = terminal_ && !muted_;
}

void Console::ClearProgress() {
  if (std::exchange(progress_, false)) Write(err_, "\r\033[K");
}

absl::Status Console::TakeInput() {
  if (refuse_input_) {
    return absl::FailedPreconditionError(
        "Refusing to read from stdin with -non-interactive specified");
  }
  if (std::exchange(taken_, true)) return absl::FailedPreconditionError("stdin already consumed");
  return absl::OkStatus();
}

absl::StatusOr<SecretBytes> Console::ReadAll() {
  RETURN_IF_ERROR(TakeInput());
  return ReadFrom(in_, false);
}

absl::StatusOr<SecretBytes> Console::Ask(std::string_view question) {
  RETURN_IF_ERROR(TakeInput());
  SecretBytes answer;
  if (isatty(in_) == 1) {
    taken_ = false;  // a terminal can be asked again
    const HiddenInput hidden(in_);
    Write(out_, question);
    ASSIGN_OR_RETURN(answer, ReadFrom(in_, true));
    Write(out_, "\n");
  } else {
    ASSIGN_OR_RETURN(answer, ReadFrom(in_, false));
  }
  if (answer.empty() || answer.view().back() == kInterrupt) {
    return absl::CancelledError("user canceled");
  }
  return SecretBytes::CopyOf(Trim(answer.view()));
}

}  // namespace coffer::cli
