#include "csi/volume/tree.h"

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

std::unique_ptr<Snapshot> Built(const Contents& contents, std::uint64_t first_inode) {
  std::vector<SnapshotFile> files = Files(contents);
  auto built = Snapshot::Build(files, first_inode, absl::FromUnixSeconds(1748950851));
  REQUIRE(built.ok());
  return *std::move(built);
}

std::map<std::string, std::uint64_t> LinksOf(const Tree& tree) {
  std::map<std::string, std::uint64_t> links;
  tree.List(Tree::kRoot, 0, [&](std::uint64_t, std::uint64_t inode, std::string_view name) {
    if (name.substr(0, 2) != "..") links[std::string(name)] = inode;
    return true;
  });
  return links;
}

// As the next plugin has it, which finds the same images.
Tree TakenOver(const std::vector<const Snapshot*>& images) {
  std::vector<std::unique_ptr<Snapshot>> all;
  for (const Snapshot* image : images) {
    auto opened = Snapshot::Open(UniqueFd(dup(image->fd())));
    REQUIRE(opened.ok());
    all.push_back(*std::move(opened));
    all.back()->Spare();
  }
  return Tree(std::move(all), {});
}

// Swaps to these contents, but for the last steps, which make and remove links.
const Snapshot* SwapHalfway(Tree& tree, const Contents& contents) {
  std::unique_ptr<Snapshot> next = Built(contents, tree.next_inode());
  const Snapshot::Counterparts counterparts = next->CounterpartsIn(tree.current());
  tree.Expect(std::move(next), counterparts);
  const Snapshot* const fresh = tree.unfinished();
  REQUIRE(tree.MakeFolder(Tree::kRoot, fresh->folder_name()));
  REQUIRE(tree.MakeLink(Tree::kRoot, Tree::kNewData, fresh->folder_name()));
  REQUIRE(tree.Rename(Tree::kRoot, Tree::kNewData, Tree::kRoot, Tree::kData, {}));
  return fresh;
}

TEST_CASE("who takes a volume over finds its links, whatever is asked first") {
  Tree tree(Built({{"a", "1"}, {"b", "2"}}, 100));
  const Snapshot* const old = &tree.current();
  const std::uint64_t a = *tree.Lookup(Tree::kRoot, "a"), b = *tree.Lookup(Tree::kRoot, "b");

  SECTION("one snapshot") {
    const Tree next = TakenOver({old});
    CHECK_FALSE(next.Lookup(Tree::kRoot, "c").has_value());
    CHECK(next.Lookup(Tree::kRoot, "b") == b);
    CHECK(next.Target(a) == "..data/a");
    CHECK(LinksOf(next) == LinksOf(tree));
  }
  SECTION("in the middle of a swap that takes one name away and brings another") {
    Tree next = TakenOver({old, SwapHalfway(tree, {{"b", "2"}, {"c", "3"}})});
    CHECK(next.Lookup(Tree::kRoot, "a") == a);
    CHECK_FALSE(next.Lookup(Tree::kRoot, "c").has_value());
    REQUIRE(next.MakeLink(Tree::kRoot, "c", "..data/c"));
    REQUIRE(next.Remove(Tree::kRoot, "a"));
    CHECK(*next.Lookup(Tree::kRoot, "c") > b);
    CHECK(LinksOf(next) == std::map<std::string, std::uint64_t>{
                               {"b", b}, {"c", *next.Lookup(Tree::kRoot, "c")}});
  }
  SECTION("the first thing that happens is a new link") {
    Tree next = TakenOver({old, SwapHalfway(tree, {{"a", "1"}, {"b", "2"}, {"c", "3"}})});
    REQUIRE(next.MakeLink(Tree::kRoot, "c", "..data/c"));
    CHECK(LinksOf(next).size() == 3);
  }
}

}  // namespace
}  // namespace coffer::volume
