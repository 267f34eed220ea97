#include "contract/box_contract.hpp"

#include "box/box_factory.hpp"

namespace fs = std::filesystem;

namespace {

/// Every box is made by the factory, as the operator makes it.
contract::BoxUnderTest Make(const support::TempFolder& temp, api::BoxType type) {
  contract::BoxUnderTest out;
  auto restarts = std::make_shared<std::vector<std::string>>();
  out.restarts = [restarts] { return *restarts; };
  box::BoxDependencies dependencies;
  dependencies.directory_roots = {temp.Path()};
  dependencies.request_restart = [restarts](const api::Workspace&, const std::string& boot) {
    restarts->push_back(boot);
    return base::Status{};
  };
  api::Workspace workspace;
  workspace.spec.box.type = type;
  const std::string root = temp / "root";
  fs::create_directories(root);
  workspace.spec.box.directory = api::DirectoryBox{root, api::DirectoryRun::kExternal};
  auto made = box::MakeBox(workspace, dependencies);
  REQUIRE(made);
  out.box = *std::move(made);
  return out;
}

contract::BoxUnderTest MakeDirectory(const support::TempFolder& temp) {
  contract::BoxUnderTest out = Make(temp, api::BoxType::kDirectory);
  out.type = "Directory";
  contract::UseFolder(out, temp / "root");
  return out;
}

contract::BoxUnderTest MakeExternal(const support::TempFolder& temp) {
  contract::BoxUnderTest out = Make(temp, api::BoxType::kExternal);
  out.type = "External";
  out.reachable = false;
  return out;
}

}  // namespace

TEST_CASE("a Directory box keeps the contract") { contract::RunBoxContract(MakeDirectory); }
TEST_CASE("an External box keeps the contract") { contract::RunBoxContract(MakeExternal); }
