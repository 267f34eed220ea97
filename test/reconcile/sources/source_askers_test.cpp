#include "reconcile/sources/source_askers.hpp"

#include <doctest/doctest.h>

using reconcile::Asker;
using reconcile::AskerKind;
using reconcile::SourceAskers;

namespace {

const Asker kBox{AskerKind::kWorkspace, {"a", "box"}};
const Asker kOther{AskerKind::kWorkspace, {"a", "other"}};
const Asker kPlugin{AskerKind::kDeclaredPlugin, {"a", "box"}};

}  // namespace

TEST_CASE("who asked is woken once, and told whether other sources are still on their way") {
  SourceAskers askers;
  for (const char* source : {"one", "two"}) {
    askers.Ask(source, kBox);
    askers.Await(source, kBox);
  }
  askers.Ask("one", kPlugin);
  askers.Ask("one", kPlugin);
  CHECK(askers.Take("one") == std::map<Asker, bool>{{kBox, true}, {kPlugin, false}});
  CHECK(askers.Take("one").empty());
  CHECK(askers.Take("two") == std::map<Asker, bool>{{kBox, false}});
  CHECK(askers.Askers() == 0);
}

TEST_CASE("what was taken between asking and awaiting is not awaited") {
  SourceAskers askers;
  askers.Ask("one", kBox);
  CHECK(askers.Take("one").size() == 1);
  askers.Await("one", kBox);
  askers.Ask("two", kBox);
  CHECK(askers.Take("two") == std::map<Asker, bool>{{kBox, false}});
}

TEST_CASE("askers that are gone leave nothing behind, and nothing of others goes with them") {
  SourceAskers askers;
  for (int n = 0; n < 100; ++n) {
    const Asker gone{AskerKind::kWorkspace, {"a", "w" + std::to_string(n)}};
    for (const char* source : {"one", "two"}) {
      askers.Ask(source, gone);
      askers.Await(source, gone);
    }
    askers.Ask("one", kOther);
    askers.Forget(gone);
    askers.Forget(gone);
  }
  CHECK(askers.Askers() == 1);
  CHECK(askers.Sources() == 1);
  CHECK(askers.Take("one") == std::map<Asker, bool>{{kOther, false}});
  askers.Forget(kBox);
  CHECK(askers.Askers() == 0);
  CHECK(askers.Sources() == 0);
}
