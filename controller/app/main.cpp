#include "app/command_line.hpp"
#include "app/first_process.hpp"
#include "base/memory.hpp"
#include "http/client/client.hpp"

int main(int argc, char** argv) {
  base::ShareArenas();
  app::LeaveFirstProcess();
  http::InitialiseClientThreads(2);
  return app::Main(argc, argv);
}
