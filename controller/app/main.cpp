#include "app/command_line.hpp"
#include "app/first_process.hpp"
#include "http/client/client.hpp"

int main(int argc, char** argv) {
  app::LeaveFirstProcess();
  http::InitialiseClientThreads(2);
  return app::Main(argc, argv);
}
