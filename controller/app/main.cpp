#include "app/command_line.hpp"
#include "app/first_process.hpp"
#include "base/memory.hpp"
#include "http/client/client.hpp"
#include "source/askpass.hpp"

int main(int argc, char** argv) {
  if (const auto answered = source::AnswerGit(argc, argv)) return *answered;
  base::ShareArenas();
  app::LeaveFirstProcess();
  http::InitialiseClientThreads(2);
  return app::Main(argc, argv);
}
