#include "bundle/installed/receipt.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/sha256.hpp"
#include "bundle/tree_check.hpp"
#include "codec/json.hpp"

namespace bundle {
namespace {

using codec::Json;

base::Error Invalid(std::string_view what, std::string_view why) {
  return base::MakeError(base::Code::kInvalid, fmt::format("{}: {}", what, why), "ReceiptInvalid");
}

/// Text, because inode numbers use all 64 bits on some file systems and JSON integers do not.
uint64_t ParseInode(const std::string& text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

base::Status ReadFiles(const Json& object, std::vector<ReceiptFile>* out) {
  const Json& files = codec::GetMember(object, "files");
  if (!files.is_array() || files.size() > Limits{}.entries)
    return Invalid("receipt", "`files` is not a list within the limits");
  for (const Json& item : files) {
    ReceiptFile file{codec::GetString(item, "path"),
                     static_cast<uint64_t>(codec::GetInt(item, "size", -1)),
                     codec::GetBool(item, "executable"), codec::GetString(item, "sha256")};
    if (auto ok = CheckPath(file.path, Limits{}); !ok)
      return Invalid("receipt", ok.error().message);
    if (file.size > Limits{}.file_bytes || file.sha256.size() != 64)
      return Invalid("receipt", fmt::format("`{}` has no right size or digest", file.path));
    out->push_back(std::move(file));
  }
  return {};
}

}  // namespace

std::string EncodeReceipt(const Receipt& receipt) {
  Json files = Json::array();
  for (const ReceiptFile& file : receipt.files)
    files.push_back({{"path", file.path},
                     {"size", file.size},
                     {"executable", file.executable},
                     {"sha256", file.sha256}});
  const Json out{{"name", receipt.name},
                 {"source", receipt.source},
                 {"revision", receipt.revision},
                 {"digest", receipt.digest},
                 {"files", std::move(files)},
                 {"activatedBootID", receipt.activated_boot_id},
                 {"activatedTime", base::FormatTime(receipt.activated_time)},
                 {"reloadNone", receipt.reload_none},
                 {"bootInstalled", receipt.boot_installed},
                 {"previousDigest", receipt.previous_digest},
                 {"mcpServers", receipt.mcp_servers},
                 {"treeInode", std::to_string(receipt.tree_inode)},
                 {"previousInode", std::to_string(receipt.previous_inode)}};
  return codec::Dump(out);
}

base::Result<Receipt> ParseReceipt(std::string_view json) {
  auto parsed = codec::ParseJson(json, {.bytes = 16 << 20, .depth = 8});
  if (!parsed) return Invalid("receipt", parsed.error().message);
  if (!parsed->is_object()) return Invalid("receipt", "is no object");
  Receipt out;
  out.name = codec::GetString(*parsed, "name");
  out.source = codec::GetString(*parsed, "source");
  out.revision = codec::GetString(*parsed, "revision");
  out.digest = codec::GetString(*parsed, "digest");
  out.activated_boot_id = codec::GetString(*parsed, "activatedBootID");
  out.activated_time =
      base::ParseTime(codec::GetString(*parsed, "activatedTime")).value_or(base::WallTime{});
  out.reload_none = codec::GetBool(*parsed, "reloadNone");
  out.boot_installed = codec::GetBool(*parsed, "bootInstalled");
  out.previous_digest = codec::GetString(*parsed, "previousDigest");
  out.tree_inode = ParseInode(codec::GetString(*parsed, "treeInode"));
  out.previous_inode = ParseInode(codec::GetString(*parsed, "previousInode"));
  if (!IsPluginName(out.name) || out.digest.size() != 71)
    return Invalid("receipt", "has no right name or digest");
  const Json& servers = codec::GetMember(*parsed, "mcpServers");
  if (servers.is_object())
    for (const auto& [name, text] : servers.items())
      if (text.is_string()) out.mcp_servers.emplace(name, text.get<std::string>());
  if (auto ok = ReadFiles(*parsed, &out.files); !ok) return ok.error();
  return out;
}

std::string EncodeTombstone(const Tombstone& tombstone) {
  Json json{{"name", tombstone.name},
            {"bootID", tombstone.boot_id},
            {"treeInode", std::to_string(tombstone.tree_inode)}};
  if (tombstone.removed_time) json["removedTime"] = base::FormatTime(*tombstone.removed_time);
  return codec::Dump(json);
}

base::Result<Tombstone> ParseTombstone(std::string_view json) {
  auto parsed = codec::ParseJson(json, {.bytes = 64 << 10, .depth = 4});
  if (!parsed) return Invalid("removal", parsed.error().message);
  Tombstone out{codec::GetString(*parsed, "name"), codec::GetString(*parsed, "bootID"),
                ParseInode(codec::GetString(*parsed, "treeInode")),
                base::ParseTime(codec::GetString(*parsed, "removedTime"))};
  if (!IsPluginName(out.name)) return Invalid("removal", "has no right name");
  return out;
}

std::string InventoryDigest(std::vector<InventoryItem> items) {
  std::sort(items.begin(), items.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  base::Sha256 hash;
  for (const InventoryItem& item : items)
    hash.Update(fmt::format("{}\n{}\n{}\n", item.name, item.digest,
                            item.loaded                ? "loaded"
                            : item.activated_this_boot ? "newer"
                                                       : "-"));
  return base::DigestText(hash.Finish());
}

}  // namespace bundle
