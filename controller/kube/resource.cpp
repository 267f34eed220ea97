#include "kube/resource.hpp"

namespace kube {

std::string ObjectRef::Text() const {
  std::string text = resource.plural;
  if (!resource.group.empty()) text += "." + resource.group;
  text += ' ';
  if (!ns.empty()) text += ns + "/";
  text += name;
  if (!subresource.empty()) text += " (" + subresource + ")";
  return text;
}

std::string EncodeQuery(std::string_view value) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(value.size());
  for (const char c : value) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string CollectionPath(const Collection& collection) {
  const Resource& resource = collection.resource;
  std::string path =
      resource.group.empty() ? "/api/" : "/apis/" + EncodeQuery(resource.group) + "/";
  path += EncodeQuery(resource.version);
  if (!collection.ns.empty()) path += "/namespaces/" + EncodeQuery(collection.ns);
  return path + "/" + EncodeQuery(resource.plural);
}

std::string ObjectPath(const ObjectRef& object) {
  std::string path = CollectionPath({object.resource, object.ns}) + "/" + EncodeQuery(object.name);
  if (!object.subresource.empty()) path += "/" + EncodeQuery(object.subresource);
  return path;
}

}  // namespace kube
