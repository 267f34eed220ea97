#pragma once

/// What ExecBox runs by a box's own POSIX shell, while its helper is not there. For sh, bash and
/// busybox; arguments come as $1 and on, never within the text.
namespace box {

/// Unpacks beside, then renames: a half-brought helper is never run. Other versions are dropped.
/// Some tars (busybox's) read to the end of their input, which never comes where standard input
/// cannot be closed (v4.channel.k8s.io): head knows where it is. All of it is read, whatever fails:
/// the kubelet tells no exit status of a program whose input is still to be read. What uploads that
/// were killed left is dropped once no upload can still be writing to it. Arguments: the folder,
/// the version's name in it, bytes, a name of this upload's own.
inline constexpr char kBringScript[] =
    "p=$1; t=\"$p/.new-$4\"; umask 022; LC_ALL=C; export LC_ALL; "
    "find \"$p\" -maxdepth 1 -name '.new-*' -mmin +30 -exec rm -rf {} \\; 2> /dev/null; "
    "{ if command -v head > /dev/null; then head -c \"$3\"; else cat; fi; } | "
    "{ mkdir -p \"$t\" && tar -xf - -C \"$t\"; code=$?; cat > /dev/null; exit $code; } && "
    "rm -rf \"$p/$2\" && mv \"$t\" \"$p/$2\" || { code=$?; rm -rf \"$t\"; exit $code; }; "
    "rm -rf \"$p/$2/.new-$4\"; "  // Where another upload of it came between: moved into that one's.
    "for o in \"$p\"/*; do [ \"$o\" = \"$p/$2\" ] || rm -rf \"$o\"; done";

/// What a probe that asks for no plugin would find: receipts, activations cut off, removals.
inline constexpr char kHasOursScript[] =
    "for f in \"$1\"/receipts/*.json \"$1\"/activating/*.json \"$1\"/removals/*.json; do "
    "[ -e \"$f\" ] && echo yes && exit 0; done; echo no";

/// As InstalledPlugins::WriteToken; the token goes by standard input, of which $2 bytes are its.
inline constexpr char kTokenScript[] =
    "p=$1; v=$(if command -v head > /dev/null; then head -c \"$2\"; else cat; fi); "
    "[ ${#v} -eq \"$2\" ] || { echo 'the token was cut off' >&2; exit 1; }; "
    "umask 022; mkdir -p \"$p\" || exit 1; umask 077; rm -f \"$p\"/.token-*; t=\"$p/.token-$$\"; "
    "if [ \"$(cat \"$p/token\" 2> /dev/null)\" = \"$v\" ]; then chmod 600 \"$p/token\"; "
    "else printf %s \"$v\" > \"$t\" && mv -f \"$t\" \"$p/token\"; fi";

/// What we brought beside plugins. $1: our folder.
inline constexpr char kTakeBackScript[] = "rm -rf \"$1/token\" \"$1/helper\"";

}  // namespace box
