#include "bundle/canonical_tar.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <doctest/doctest.h>

#include <random>

#include "base/child_process.hpp"
#include "support/plugin_tar.hpp"

using namespace support;

namespace {

class Collect final : public bundle::TarVisitor {
 public:
  base::Status OnFile(const bundle::FileEntry& file) override {
    current = &tree[file.path];
    return {};
  }
  base::Status OnBytes(std::string_view bytes) override {
    current->append(bytes);
    return {};
  }
  Tree tree;
  std::string* current = nullptr;
};

std::string ReadBack(const std::string& tar, Tree* tree, size_t piece = 1 << 20,
                     bundle::Limits limits = {}) {
  Collect collect;
  bundle::TarReader reader(collect, limits);
  for (size_t at = 0; at < tar.size(); at += piece)
    if (auto ok = reader.Push(std::string_view(tar).substr(at, piece)); !ok)
      return ok.error().reason;
  auto digest = reader.Finish();
  if (!digest) return digest.error().reason;
  if (tree != nullptr) *tree = collect.tree;
  return base::DigestText(*digest);
}

/// An archive by libarchive, as foreign tools write them.
struct ForeignEntry {
  std::string path;
  std::string content;
  unsigned type = AE_IFREG;
  std::string link = "";
  unsigned mode = 0644;
};

std::string ForeignTar(const std::vector<ForeignEntry>& entries, bool pax = false) {
  std::string out(4 << 20, '\0');
  size_t used = 0;
  archive* a = archive_write_new();
  pax ? archive_write_set_format_pax(a) : archive_write_set_format_gnutar(a);
  archive_write_open_memory(a, out.data(), out.size(), &used);
  for (const ForeignEntry& e : entries) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, e.path.c_str());
    archive_entry_set_filetype(entry, e.type);
    archive_entry_set_perm(entry, e.mode);
    archive_entry_set_size(entry, static_cast<int64_t>(e.content.size()));
    if (e.type == AE_IFLNK)
      archive_entry_set_symlink(entry, e.link.c_str());
    else if (!e.link.empty())
      archive_entry_set_hardlink(entry, e.link.c_str());
    archive_write_header(a, entry);
    archive_write_data(a, e.content.data(), e.content.size());
    archive_entry_free(entry);
  }
  archive_write_close(a);
  archive_write_free(a);
  out.resize(used);
  return out;
}

}  // namespace

TEST_CASE(
    "a tree survives the way through the archive, in pieces of any size, with the same digest") {
  TempFolder temp;
  Tree tree = SimplePlugin("hello", "1");
  tree["empty"] = "";
  tree["block"] = std::string(512, 'x');
  tree["big"] = std::string(100'000, 'y');
  tree[std::string(90, 'd') + "/" + std::string(150, 'f')] = "long path";
  tree["docs/" + std::string(94, 'u') + "\xc3\xbc"] = "just over one hundred bytes";
  const PackedPlugin packed = PackPlugin(tree, temp / "p.tar");
  const std::string tar = ReadText(packed.tar_path);
  CHECK(packed.digest == base::DigestText(base::Sha256Of(tar)));
  std::vector<bundle::FileEntry> files;
  for (const auto& [path, content] : tree) files.push_back({path, content.size(), false});
  CHECK(bundle::TarBytes(files) == tar.size());
  for (const size_t piece : {size_t{1 << 20}, size_t{512}, size_t{513}, size_t{7}}) {
    Tree back;
    CHECK(ReadBack(tar, &back, piece) == packed.digest);
    CHECK(back == tree);
  }
}

TEST_CASE("the bytes of the format are fixed for ever") {
  TempFolder temp;
  const PackedPlugin packed = PackPlugin(
      {{"plugin.yaml", "name: a\n"}, {"run", "#!x"}, {std::string(101, 'p'), "q"}}, temp / "p.tar");
  // If this changes, every box in the world looks drifted.
  CHECK(packed.digest == "sha256:25192c51fb98b1fa01d6c9ddfe33601be5faff164beade8fbb4501e6ddb1552e");
}

TEST_CASE("the program tar reads what we write") {
  TempFolder temp;
  const std::string long_path = std::string(90, 'd') + "/" + std::string(150, 'f');
  PackPlugin({{"plugin.yaml", "name: a\n"}, {"run", "#!x"}, {long_path, "deep"}}, temp / "p.tar");
  std::filesystem::create_directory(temp / "out");
  auto result = base::RunCommand({.argv = {"tar", "-xf", temp / "p.tar", "-C", temp / "out"},
                                  .environment = {},
                                  .working_directory = "",
                                  .input = ""});
  REQUIRE(result);
  CHECK(result->error == "");
  CHECK(result->exit_code == 0);
  CHECK(ReadText(temp / "out/plugin.yaml") == "name: a\n");
  CHECK(ReadText(temp / ("out/" + long_path)) == "deep");
}

TEST_CASE("archives that our encoder would not have written are refused") {
  const std::string long_name(300, 'n');
  const std::vector<std::pair<const char*, std::string>> corpus{
      {"a foreign plain file", ForeignTar({{"plugin.yaml", "name: a\n"}})},
      {"a symbolic link out", ForeignTar({{"x", "", AE_IFLNK, "/etc/passwd"}})},
      {"a symbolic link inside", ForeignTar({{"x", "", AE_IFLNK, "y"}})},
      {"a hard link", ForeignTar({{"a", "x"}, {"b", "", AE_IFREG, "a"}})},
      {"two dots", ForeignTar({{"../x", "y"}})},
      {"absolute", ForeignTar({{"/etc/x", "y"}})},
      {"a character device", ForeignTar({{"dev", "", AE_IFCHR}})},
      {"a block device", ForeignTar({{"dev", "", AE_IFBLK}})},
      {"a pipe", ForeignTar({{"pipe", "", AE_IFIFO}})},
      {"a folder entry", ForeignTar({{"d", "", AE_IFDIR, "", 0755}})},
      {"setuid", ForeignTar({{"x", "y", AE_IFREG, "", 04755}})},
      {"a GNU long name", ForeignTar({{long_name, "y"}})},
      {"pax records", ForeignTar({{long_name, "y"}}, true)},
      {"no archive at all", std::string(2048, 'z')},
      {"gzip", std::string("\x1f\x8b\x08\0\0\0\0\0", 8) + std::string(1016, 'q')},
      {"nothing", ""},
  };
  for (const auto& [what, tar] : corpus) {
    CAPTURE(what);
    CHECK(ReadBack(tar, nullptr) == "NotCanonical");
  }
}

TEST_CASE(
    "a good archive cut off, continued, reordered or with one bit changed is refused or has "
    "another digest") {
  TempFolder temp;
  Tree tree = SimplePlugin("hello", "1");
  tree[std::string(150, 'l')] = "x";
  const PackedPlugin packed = PackPlugin(tree, temp / "p.tar");
  const std::string tar = ReadText(packed.tar_path);
  for (size_t end = 0; end < tar.size(); end += 64)
    CHECK(ReadBack(tar.substr(0, end), nullptr) == "NotCanonical");
  CHECK(ReadBack(tar + std::string(512, '\0'), nullptr) == "NotCanonical");
  CHECK(ReadBack(tar + "x", nullptr) == "NotCanonical");
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    std::string bad = tar;
    bad[random() % bad.size()] ^= static_cast<char>(1 << (random() % 8));
    Tree back;
    const std::string answer = ReadBack(bad, &back);
    CHECK(answer != packed.digest);
  }
  // The same entries in another order.
  const std::string first =
      ReadText(PackPlugin({{"a", "1"}}, temp / "a.tar").tar_path).substr(0, 1024);
  const std::string second = ReadText(PackPlugin({{"b", "2"}}, temp / "b.tar").tar_path);
  CHECK(ReadBack(first + second, nullptr).starts_with("sha256:"));
  CHECK(ReadBack(second.substr(0, 1024) + first + std::string(1024, '\0'), nullptr) ==
        "NotCanonical");
  CHECK(ReadBack(first + first + std::string(1024, '\0'), nullptr) == "NotCanonical");
}

TEST_CASE("limits hold while reading, before content is looked at") {
  TempFolder temp;
  const std::string tar =
      ReadText(PackPlugin({{"a", std::string(2000, 'x')}, {"b", "y"}}, temp / "p.tar").tar_path);
  bundle::Limits limits;
  limits.file_bytes = 1999;
  CHECK(ReadBack(tar, nullptr, 512, limits) == "TooLarge");
  limits = {};
  limits.total_bytes = 2000;
  CHECK(ReadBack(tar, nullptr, 512, limits) == "TooLarge");
  limits = {};
  limits.entries = 1;
  CHECK(ReadBack(tar, nullptr, 512, limits) == "TooManyEntries");
}

TEST_CASE("content that is not as long as announced leaves no file behind") {
  TempFolder temp;
  auto packed = bundle::WriteTarFile(
      {{"a", 5, false}}, {}, [](const auto&, const bundle::ByteSink& sink) { return sink("abc"); },
      temp / "p.tar");
  CHECK_FALSE(packed);
  CHECK_FALSE(std::filesystem::exists(temp / "p.tar"));
}
