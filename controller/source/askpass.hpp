#pragma once

#include <optional>

namespace source {

/// What names the folder of the answers in the environment of git and so of what it asks.
inline constexpr char kSecretFolderVariable[] = "WO_SECRET_DIRECTORY";

/// git asks for a user name or a password by starting the program of GIT_ASKPASS with the question
/// as its only argument: that program is this one, since an image need not have a shell. If this
/// run is such a question, prints the answer and returns the exit code; else returns nothing and
/// has done nothing. What it prints is in files (GitProgram writes them), never in an argument list
/// or in the environment. The first thing in main, before there is a thread.
std::optional<int> AnswerGit(int argc, const char* const* argv);

}  // namespace source
