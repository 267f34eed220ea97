#include "app/command_line.hpp"
#include "http/client.hpp"

int main(int argc, char** argv) {
  http::InitialiseClientThreads(2);
  return app::Main(argc, argv);
}
