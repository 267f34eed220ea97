#include "reconcile/sources/source_askers.hpp"

namespace reconcile {

void SourceAskers::Ask(const std::string& source, const Asker& asker) {
  const auto about = sources_.try_emplace(source).first;
  const auto who = askers_.try_emplace(asker).first;
  about->second.insert(&who->first);
  who->second.sources.try_emplace(&about->first, false);
}

void SourceAskers::Await(const std::string& source, const Asker& asker) {
  const auto about = sources_.find(source);
  const auto who = askers_.find(asker);
  if (about == sources_.end() || who == askers_.end()) return;
  const auto asked = who->second.sources.find(&about->first);
  if (asked == who->second.sources.end() || asked->second) return;
  asked->second = true;
  ++who->second.awaited;
}

std::map<Asker, bool> SourceAskers::Take(const std::string& source) {
  std::map<Asker, bool> taken;
  const auto about = sources_.find(source);
  if (about == sources_.end()) return taken;
  for (const Asker* asker : about->second) {
    const auto who = askers_.find(*asker);
    const auto asked = who->second.sources.find(&about->first);
    if (asked->second) --who->second.awaited;
    who->second.sources.erase(asked);
    taken.emplace(*asker, who->second.awaited > 0);
    if (who->second.sources.empty()) askers_.erase(who);
  }
  sources_.erase(about);
  return taken;
}

void SourceAskers::Forget(const Asker& asker) {
  const auto who = askers_.find(asker);
  if (who == askers_.end()) return;
  for (const auto& [source, awaited] : who->second.sources) {
    const auto about = sources_.find(*source);
    about->second.erase(&who->first);
    if (about->second.empty()) sources_.erase(about);
  }
  askers_.erase(who);
}

}  // namespace reconcile
