#include "base/memory.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "support/temp_folder.hpp"

namespace {

constexpr uint64_t kMi = 1 << 20;

/// A file below /sys/fs/cgroup.
struct File {
  std::string path, text;
};

struct Row {
  const char* name;
  std::string own;
  std::vector<File> files;
  std::optional<uint64_t> limit;
};

}  // namespace

TEST_CASE("the memory limit is the least of the process's cgroup and those around it") {
  const std::string none_v1 = "9223372036854771712\n";
  const Row rows[] = {
      {"a container with a cgroup namespace", "0::/\n", {{"memory.max", "134217728\n"}}, 128 * kMi},
      {"a container without one",
       "0::/kubepods/pod1/c\n",
       {{"memory.max", "134217728\n"}},
       128 * kMi},
      {"no limit", "0::/\n", {{"memory.max", "max\n"}}, std::nullopt},
      {"no limit of its own, one of the Pod's",
       "0::/pod/c\n",
       {{"pod/c/memory.max", "max\n"}, {"pod/memory.max", "1048576\n"}},
       kMi},
      {"a unit of the system",
       "0::/system.slice/op.service\n",
       {{"system.slice/op.service/memory.max", "2097152\n"},
        {"system.slice/memory.max", "3145728\n"}},
       2 * kMi},
      {"v1",
       "5:cpu,cpuacct:/x\n4:memory:/pod/c\n0::/\n",
       {{"memory/pod/c/memory.limit_in_bytes", "1048576\n"}},
       kMi},
      {"v1, seen from inside",
       "4:memory:/pod/c\n0::/\n",
       {{"memory/memory.limit_in_bytes", "1048576\n"}},
       kMi},
      {"v1, no limit",
       "4:memory:/pod/c\n",
       {{"memory/pod/c/memory.limit_in_bytes", none_v1}, {"memory/memory.limit_in_bytes", none_v1}},
       std::nullopt},
      {"no cgroups at all", "", {}, std::nullopt},
      {"nonsense", "x\n::\n7:memory\n", {}, std::nullopt},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const support::TempFolder folder;
    support::WriteText(folder / "own", row.own);
    for (const File& file : row.files)
      support::WriteText(folder / ("root/" + file.path), file.text);
    CHECK(base::MemoryLimit({folder / "own", folder / "root"}) == row.limit);
  }
}
