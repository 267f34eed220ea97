#include "bundle/canonical_tar.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file.hpp"

namespace bundle {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kNameField = 100;

void PutOctal(char* field, size_t width, uint64_t value) {
  const std::string text = fmt::format("{:0{}o}", value, width - 1);
  std::memcpy(field, text.data(), width - 1);
}

std::string Header(std::string_view name, uint64_t size, unsigned mode, char type) {
  std::string block(kBlock, '\0');
  std::memcpy(block.data(), name.data(), std::min(name.size(), kNameField));
  PutOctal(&block[100], 8, mode);
  PutOctal(&block[108], 8, 0);
  PutOctal(&block[116], 8, 0);
  PutOctal(&block[124], 12, size);
  PutOctal(&block[136], 12, 0);
  std::memset(&block[148], ' ', 8);
  block[156] = type;
  std::memcpy(&block[257], "ustar\00000", 8);
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  const std::string text = fmt::format("{:06o}", sum);
  std::memcpy(&block[148], text.data(), 6);
  block[154] = '\0';
  return block;
}

size_t Padding(uint64_t size) { return static_cast<size_t>((kBlock - size % kBlock) % kBlock); }

/// A pax record counts its own length field.
std::string PaxPath(std::string_view path) {
  const size_t rest = path.size() + 7;  // space, "path=", newline
  size_t length = rest + 1;
  while (fmt::formatted_size("{}", length) + rest != length)
    length = rest + fmt::formatted_size("{}", length);
  return fmt::format("{} path={}\n", length, path);
}

std::string FileHeaders(const FileEntry& file) {
  std::string out;
  if (file.path.size() > kNameField) {
    std::string pax = PaxPath(file.path);
    out = Header("PaxHeader", pax.size(), 0644, 'x');
    pax.append(Padding(pax.size()), '\0');
    out += pax;
  }
  return out + Header(file.path, file.size, file.executable ? 0755 : 0644, '0');
}

base::Error NotCanonical(std::string_view why) {
  return base::MakeError(base::Code::kInvalid, fmt::format("archive: {}", why), "NotCanonical");
}

bool AllZero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

/// The value of an octal field that our encoder wrote; anything else gives a header that cannot be
/// equal to ours.
uint64_t TakeOctal(std::string_view field) {
  uint64_t value = 0;
  for (const char c : field.substr(0, field.size() - 1)) {
    if (c < '0' || c > '7') return UINT64_MAX;
    value = value * 8 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

}  // namespace

base::Status TarWriter::Emit(std::string_view bytes) {
  if (bytes.empty()) return {};
  hash_.Update(bytes);
  written_ += bytes.size();
  return sink_(bytes);
}

base::Status TarWriter::EndFile() {
  if (!open_) return {};
  if (left_ != 0)
    return base::MakeError(base::Code::kInternal, fmt::format("archive: `{}` lacks {} bytes",
                                                              Printable(last_path_), left_));
  open_ = false;
  return Emit(std::string(padding_, '\0'));
}

base::Status TarWriter::Begin(const FileEntry& file) {
  if (auto ended = EndFile(); !ended) return ended;
  if (file.path <= last_path_)
    return base::MakeError(base::Code::kInternal,
                           fmt::format("archive: `{}` is out of order", Printable(file.path)));
  last_path_ = file.path;
  left_ = file.size;
  padding_ = Padding(file.size);
  open_ = true;
  return Emit(FileHeaders(file));
}

base::Status TarWriter::Write(std::string_view bytes) {
  if (bytes.size() > left_)
    return base::MakeError(
        base::Code::kInternal,
        fmt::format("archive: `{}` is longer than announced", Printable(last_path_)));
  left_ -= bytes.size();
  return Emit(bytes);
}

base::Result<base::Sha256Digest> TarWriter::Finish() {
  if (auto ended = EndFile(); !ended) return ended.error();
  if (auto done = Emit(std::string(2 * kBlock, '\0')); !done) return done.error();
  return hash_.Finish();
}

uint64_t TarBytes(const std::vector<FileEntry>& files) {
  uint64_t total = 2 * kBlock;
  for (const FileEntry& file : files)
    total += FileHeaders(file).size() + file.size + Padding(file.size);
  return total;
}

struct TarReader::State {
  State(TarVisitor& v, Limits l) : visitor(v), limits(l) {}
  enum class Stage { kHeader, kPaxBody, kContent, kPadding, kEnd };

  base::Status OnBlock();
  base::Status OnHeader();
  base::Status OnPaxBody();
  base::Status StartFile(FileEntry file);
  base::Status Content(std::string_view& bytes);

  TarVisitor& visitor;
  Limits limits;
  base::Sha256 hash;
  Stage stage = Stage::kHeader;
  std::string block;       ///< Collects what is read in whole blocks.
  size_t wanted = kBlock;  ///< How long `block` must get.
  std::string pax_path;    ///< From the pax header before the next file.
  std::vector<FileEntry> files;
  uint64_t left = 0;  ///< Of the current file.
  uint64_t total = 0;
};

base::Status TarReader::State::StartFile(FileEntry file) {
  if (!files.empty() && file.path <= files.back().path)
    return NotCanonical(fmt::format("`{}` is out of order or there twice", Printable(file.path)));
  if (files.size() >= limits.entries)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("archive: more than {} files", limits.entries),
                           "TooManyEntries");
  if (auto ok = CheckPath(file.path, limits); !ok) return ok;
  total += std::min(file.size, limits.total_bytes + 1);
  if (file.size > limits.file_bytes || total > limits.total_bytes)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("archive: `{}` passes the size limit", Printable(file.path)),
                           "TooLarge");
  files.push_back(file);
  pax_path.clear();
  left = file.size;
  stage = left > 0 ? Stage::kContent : Stage::kHeader;
  wanted = kBlock;
  return visitor.OnFile(files.back());
}

base::Status TarReader::State::OnHeader() {
  const std::string_view view = block;
  if (AllZero(view)) {
    if (!pax_path.empty()) return NotCanonical("ends after a pax header");
    stage = Stage::kEnd;
    return {};
  }
  const uint64_t size = TakeOctal(view.substr(124, 12));
  if (view[156] == 'x' && pax_path.empty()) {
    if (size > limits.path_bytes + 32 || block != Header("PaxHeader", size, 0644, 'x'))
      return NotCanonical("has a pax header that is not ours");
    stage = Stage::kPaxBody;
    wanted = size + Padding(size);
    left = size;
    return {};
  }
  FileEntry file;
  file.size = size;
  file.executable = view.substr(100, 8) == std::string_view("0000755\0", 8);
  file.path = pax_path.empty() ? std::string(view.substr(0, std::min(view.find('\0'), kNameField)))
                               : pax_path;
  if (size > (uint64_t{1} << 33) - 1 ||
      block != Header(file.path, file.size, file.executable ? 0755 : 0644, '0'))
    return NotCanonical(
        fmt::format("entry {} is no plain file as our encoder writes it (links, devices and "
                    "extensions are refused)",
                    files.size() + 1));
  return StartFile(std::move(file));
}

base::Status TarReader::State::OnPaxBody() {
  const std::string_view body = std::string_view(block).substr(0, left);
  const size_t equals = body.find('=');
  if (equals == std::string_view::npos || body.size() < equals + 2 ||
      !AllZero(std::string_view(block).substr(left)))
    return NotCanonical("has a pax header that is not ours");
  pax_path = body.substr(equals + 1, body.size() - equals - 2);
  if (pax_path.size() <= kNameField || body != PaxPath(pax_path))
    return NotCanonical("has a pax header that is not ours");
  stage = Stage::kHeader;
  wanted = kBlock;
  return {};
}

base::Status TarReader::State::OnBlock() {
  switch (stage) {
    case Stage::kHeader:
      return OnHeader();
    case Stage::kPaxBody:
      return OnPaxBody();
    case Stage::kPadding:
      if (!AllZero(block)) return NotCanonical("has bytes in a padding");
      stage = Stage::kHeader;
      wanted = kBlock;
      return {};
    case Stage::kEnd:
      if (!AllZero(block)) return NotCanonical("has bytes after its end");
      wanted = 0;
      return {};
    case Stage::kContent:
      break;
  }
  return base::MakeError(base::Code::kInternal, "archive reader: impossible state");
}

base::Status TarReader::State::Content(std::string_view& bytes) {
  const std::string_view piece =
      bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(left, bytes.size())));
  bytes.remove_prefix(piece.size());
  left -= piece.size();
  if (left == 0) {
    const size_t padding = Padding(files.back().size);
    stage = padding > 0 ? Stage::kPadding : Stage::kHeader;
    wanted = padding > 0 ? padding : kBlock;
  }
  return visitor.OnBytes(piece);
}

TarReader::TarReader(TarVisitor& visitor, Limits limits)
    : state_(std::make_unique<State>(visitor, limits)) {}
TarReader::~TarReader() = default;

base::Status TarReader::Push(std::string_view bytes) {
  State& s = *state_;
  s.hash.Update(bytes);
  while (!bytes.empty()) {
    if (s.stage == State::Stage::kContent) {
      if (auto ok = s.Content(bytes); !ok) return ok;
      continue;
    }
    if (s.wanted == 0) return NotCanonical("has bytes after its end");
    const std::string_view piece = bytes.substr(0, s.wanted - s.block.size());
    s.block += piece;
    bytes.remove_prefix(piece.size());
    if (s.block.size() < s.wanted) continue;
    auto ok = s.OnBlock();
    s.block.clear();
    if (!ok) return ok;
  }
  return {};
}

base::Result<base::Sha256Digest> TarReader::Finish() {
  if (state_->stage != State::Stage::kEnd || state_->wanted != 0) return NotCanonical("is cut off");
  if (auto ok = CheckTree(state_->files, state_->limits); !ok) return ok.error();
  return state_->hash.Finish();
}

namespace {

template <typename Writer>
base::Status WriteFiles(std::vector<FileEntry>& files, const Limits& limits,
                        const ContentReader& content, Writer& writer) {
  if (auto ok = CheckTree(files, limits); !ok) return ok;
  std::sort(files.begin(), files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.path < b.path; });
  for (const FileEntry& file : files) {
    if (auto ok = writer.Begin(file); !ok) return ok;
    if (auto ok = content(file, [&writer](std::string_view bytes) { return writer.Write(bytes); });
        !ok)
      return ok;
  }
  return {};
}

}  // namespace

TarFileWriter::TarFileWriter(std::string path, base::UniqueFd fd)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      writer_([this](std::string_view bytes) -> base::Status {
        buffer_ += bytes;
        return buffer_.size() >= (256 << 10) ? Flush() : base::Status{};
      }) {}

base::Result<std::unique_ptr<TarFileWriter>> TarFileWriter::Create(const std::string& path) {
  base::UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.Valid()) return base::ErrnoError(errno, "create " + path);
  return std::unique_ptr<TarFileWriter>(new TarFileWriter(path, std::move(fd)));
}

TarFileWriter::~TarFileWriter() {
  if (!finished_) ::unlink(path_.c_str());
}

base::Status TarFileWriter::Flush() {
  for (std::string_view rest = buffer_; !rest.empty();) {
    const ssize_t n = ::write(fd_.Get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoError(errno, "write " + path_);
    rest.remove_prefix(static_cast<size_t>(n));
  }
  buffer_.clear();
  return {};
}

base::Result<PackedTar> TarFileWriter::Finish() {
  auto digest = writer_.Finish();
  if (!digest) return digest.error();
  if (auto ok = Flush(); !ok) return ok.error();
  if (::fsync(fd_.Get()) != 0) return base::ErrnoError(errno, "fsync " + path_);
  finished_ = true;
  return PackedTar{base::DigestText(*digest), writer_.BytesWritten()};
}

base::Result<PackedTar> WriteTarFile(std::vector<FileEntry> files, const Limits& limits,
                                     const ContentReader& content, const std::string& path) {
  auto writer = TarFileWriter::Create(path);
  if (!writer) return writer.error();
  if (auto ok = WriteFiles(files, limits, content, **writer); !ok) return ok.error();
  return (*writer)->Finish();
}

base::Result<std::string> TarDigest(std::vector<FileEntry> files, const Limits& limits,
                                    const ContentReader& content) {
  TarWriter writer([](std::string_view) { return base::Status{}; });
  if (auto ok = WriteFiles(files, limits, content, writer); !ok) return ok.error();
  auto digest = writer.Finish();
  if (!digest) return digest.error();
  return base::DigestText(*digest);
}

}  // namespace bundle
