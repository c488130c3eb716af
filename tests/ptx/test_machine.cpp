// The machine that runs PTX, on PTX written by hand: what its instructions compute (PTX ISA 9.0), and what it refuses.

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "ptx/decoder.h"
#include "ptx/tensor_map.h"
#include "ptx/traffic.h"

namespace reid::test::ptx {
namespace {

// Memory of the device, for a scope.
class Allowed {
 public:
  explicit Allowed(std::span<const uint64_t> words) : start_(words.data()) { allow_memory(start_, words.size_bytes()); }
  ~Allowed() { forbid_memory(start_); }
  Allowed(const Allowed&) = delete;
  Allowed& operator=(const Allowed&) = delete;

 private:
  const void* start_;
};

// Runs the statements, by so many threads. In %rd0 stands the address of what is returned, 64 words of zero before, in %rd1 that of the
// thread's own, in %r0 the thread.
std::vector<uint64_t> results(const std::string& statements, unsigned threads = 32, const std::string& arrays = "", unsigned cluster = 1) {
  const std::string head =
      "\tld.param.u64 %rd0, [probe_param_0];\n\tmov.u32 %r0, %tid.x;\n\tmul.wide.u32 %rd1, %r0, 8;\n\tadd.s64 %rd1, %rd0, %rd1;\n";
  Module module(
      ".version 9.0\n.target sm_90a\n.address_size 64\n\n" + arrays +
      "\n\n.visible .entry probe(\n\t.param .u64 probe_param_0\n)\n{\n\t.reg .pred %p<8>;\n\t.reg .b16 %rs<8>;\n\t.reg .b32 %r<32>;\n"
      "\t.reg .f32 %f<32>;\n\t.reg .b64 %rd<16>;\n\t.reg .f64 %fd<4>;\n" +
      head + statements + "\n\tret;\n}\n");
  alignas(32) std::array<uint64_t, 64> to{};  // whole sectors
  const Allowed memory(to);
  Launch launch{
      .kernel = &module.kernel("probe"), .grid = {cluster, 1, 1}, .block = {threads, 1, 1}, .cluster = cluster, .dynamic_shared = 8192};
  launch.pieces.resize(1);
  const uint64_t address = reinterpret_cast<uint64_t>(to.data());
  std::memcpy(launch.parameters(), &address, sizeof(address));
  run(launch);
  return {to.begin(), to.end()};
}

// What one instruction leaves in its register, whose bits are stored: "%r1 = ..." of the 32-bit operands.
uint32_t narrow(const std::string& statements) {
  return static_cast<uint32_t>(results(statements + "\n\tst.global.u32 [%rd1], %r1;", 1)[0]);
}
uint64_t wide(const std::string& statements) { return results(statements + "\n\tst.global.u64 [%rd1], %rd2;", 1)[0]; }
float real(const std::string& statements) {
  return std::bit_cast<float>(static_cast<uint32_t>(results(statements + "\n\tst.global.f32 [%rd1], %f1;", 1)[0]));
}
bool holds(const std::string& comparison) {
  return narrow("\tmov.f32 %f1, 0f3F800000;\n\tmov.f32 %f2, 0f7FC00000;\n\t" + comparison + "\n\tselp.b32 %r1, 1, 0, %p1;") == 1;
}

TEST_CASE("machine for PTX: integers") {
  CHECK(narrow("mov.u32 %r2, -5;\n\tshr.s32 %r1, %r2, 40;") == 0xFFFFFFFFu);
  CHECK(narrow("mov.u32 %r2, -5;\n\tshr.u32 %r1, %r2, 40;") == 0);
  CHECK(narrow("mov.u32 %r2, 3;\n\tshl.b32 %r1, %r2, 32;") == 0);
  CHECK(narrow("mov.u32 %r2, 0x80000000;\n\tabs.s32 %r1, %r2;") == 0x80000000u);
  CHECK(narrow("mov.u32 %r2, -7;\n\tdiv.s32 %r1, %r2, 2;") == static_cast<uint32_t>(-3));
  CHECK(narrow("mov.u32 %r2, -7;\n\trem.s32 %r1, %r2, 2;") == static_cast<uint32_t>(-1));
  CHECK(narrow("mov.u32 %r2, 0x12345678;\n\tmul.hi.s32 %r1, %r2, -16;") == 0xFFFFFFFEu);
  CHECK(wide("mov.u32 %r2, -2;\n\tmul.wide.u32 %rd2, %r2, 3;") == 0x2FFFFFFFAu);
  CHECK(wide("mov.u32 %r2, -2;\n\tmul.wide.s32 %rd2, %r2, 3;") == static_cast<uint64_t>(-6));
  CHECK(narrow("mov.u32 %r2, 5;\n\tmov.u32 %r3, 0xFFFFFFFF;\n\tbfi.b32 %r1, %r2, %r3, 4, 3;") == 0xFFFFFFDFu);
  CHECK(wide("mov.u64 %rd3, 1;\n\tmov.u64 %rd4, 2;\n\tbfi.b64 %rd2, %rd3, %rd4, 32, 32;") == 0x100000002u);
  CHECK(narrow("mov.u32 %r2, 0x33221100;\n\tmov.u32 %r3, 0x77665544;\n\tprmt.b32 %r1, %r2, %r3, 0x7610;") == 0x77661100u);
  CHECK(narrow("mov.u32 %r2, 0x80;\n\tprmt.b32 %r1, %r2, %r2, 0x8888;") == 0xFFFFFFFFu);
  CHECK(narrow("mov.u32 %r2, 0xF0F0;\n\tpopc.b32 %r1, %r2;") == 8);
  CHECK(wide("mov.u32 %r2, -1;\n\tcvt.s64.s32 %rd2, %r2;") == ~uint64_t{0});
  CHECK(wide("mov.u32 %r2, -1;\n\tcvt.u64.u32 %rd2, %r2;") == 0xFFFFFFFFu);
}

TEST_CASE("machine for PTX: roundings, and what a NaN does") {
  CHECK(real("mov.f32 %f2, 0f3F800000;\n\tadd.rz.f32 %f1, %f2, 0f33C00000;") == 1.0f);
  CHECK(real("mov.f32 %f2, 0fBF800000;\n\tfma.rm.f32 %f1, %f2, 0f3F800000, 0fA2000000;") == std::nextafter(-1.0f, -2.0f));
  CHECK(real("mov.f32 %f2, 0f3F800001;\n\tfma.rn.f32 %f1, %f2, %f2, 0fBF800002;") == 0x1p-46f);
  CHECK(real("mov.f32 %f2, 0f7FC00000;\n\tmax.f32 %f1, %f2, 0f40000000;") == 2.0f);
  CHECK(real("mov.f32 %f2, 0f7FC00000;\n\tmov.f32 %f3, 0f40000000;\n\tmax.f32 %f1, %f3, %f2;") == 2.0f);
  CHECK(real("mov.f32 %f2, 0f7FC00000;\n\tcvt.sat.f32.f32 %f1, %f2;") == 0.0f);
  CHECK(real("mov.f32 %f2, 0fC0200000;\n\tcvt.rni.f32.f32 %f1, %f2;") == -2.0f);
  CHECK(real("mov.f32 %f2, 0fC0200000;\n\tcvt.rmi.f32.f32 %f1, %f2;") == -3.0f);
  CHECK(narrow("mov.f32 %f2, 0f4F800000;\n\tcvt.rzi.s32.f32 %r1, %f2;") == 0x7FFFFFFFu);
  CHECK(narrow("mov.f32 %f2, 0fCF800000;\n\tcvt.rzi.s32.f32 %r1, %f2;") == 0x80000000u);
  CHECK(narrow("mov.f32 %f2, 0f7FC00000;\n\tcvt.rzi.s32.f32 %r1, %f2;") == 0);
  CHECK(narrow("mov.f32 %f2, 0f3F800000;\n\tmov.f32 %f3, 0f40008000;\n\tcvt.rn.bf16x2.f32 %r1, %f2, %f3;") == 0x3F804000u);
  CHECK(narrow("mov.f32 %f2, 0f7FC00001;\n\tcvt.rn.bf16.f32 %rs1, %f2;\n\tcvt.u32.u16 %r1, %rs1;") == 0x7FFF);
  CHECK(real("mov.f32 %f2, 0f00000001;\n\tex2.approx.ftz.f32 %f1, %f2;") == 1.0f);
  CHECK(holds("setp.lt.f32 %p1, %f1, %f2;") == false);
  CHECK(holds("setp.ltu.f32 %p1, %f1, %f2;") == true);
  CHECK(holds("setp.ne.f32 %p1, %f1, %f2;") == false);
  CHECK(holds("setp.neu.f32 %p1, %f1, %f2;") == true);
  CHECK(holds("setp.nan.f32 %p1, %f1, %f2;") == true);
  CHECK(holds("setp.num.f32 %p1, %f1, %f2;") == false);
}

TEST_CASE("machine for PTX: lanes that part come together again, each with its own count of turns") {
  const std::vector<uint64_t> sums = results(
      "mov.u32 %r1, 0;\n\tmov.u32 %r2, %r0;\nTURN:\n\tsetp.eq.s32 %p1, %r2, 0;\n\t@%p1 bra DONE;\n\tadd.s32 %r1, %r1, 2;\n"
      "\tsub.s32 %r2, %r2, 1;\n\tbra.uni TURN;\nDONE:\n\tshfl.sync.bfly.b32 %r3|%p2, %r1, 1, 31, -1;\n\tst.global.u32 [%rd1], %r3;");
  for (uint32_t lane = 0; lane < 32; ++lane) CHECK(sums[lane] == 2 * (lane ^ 1));
}

TEST_CASE("machine for PTX: shuffles, votes, atomics") {
  const auto shuffled = [](const std::string& how) {
    return results("shfl.sync." + how + ", -1;\n\tselp.b32 %r2, 100, 0, %p1;\n\tadd.s32 %r1, %r1, %r2;\n\tst.global.u32 [%rd1], %r1;");
  };
  CHECK(shuffled("up.b32 %r1|%p1, %r0, 3, 0")[2] == 2);
  CHECK(shuffled("up.b32 %r1|%p1, %r0, 3, 0")[3] == 100);
  CHECK(shuffled("down.b32 %r1|%p1, %r0, 3, 31")[28] == 131);
  CHECK(shuffled("down.b32 %r1|%p1, %r0, 3, 31")[29] == 29);
  CHECK(shuffled("idx.b32 %r1|%p1, %r0, 5, 31")[9] == 105);
  CHECK(shuffled("bfly.b32 %r1|%p1, %r0, 4, 31")[9] == 113);
  CHECK(results("setp.gt.u32 %p1, %r0, 29;\n\tvote.sync.ballot.b32 %r1, %p1, -1;\n\tst.global.u32 [%rd1], %r1;")[4] == 0xC0000000u);
  const std::vector<uint64_t> counted = results(
      "mov.u64 %rd2, 0;\n\tst.global.u64 [%rd0+504], %rd2;\n\tbar.sync 0;\n\tatom.global.add.u32 %r1, [%rd0+504], 2;\n"
      "\tst.global.u32 [%rd1], %r1;",
      48);
  CHECK(counted[63] == 96);
  CHECK(counted[47] == 94);
}

constexpr char kTile[] = "\n.shared .align 1024 .b8 tile[2048];\n.shared .align 8 .b8 gate[16];\n";

TEST_CASE("machine for PTX: copies arrive when they are waited for, no sooner") {
  const std::string copies =
      "mov.u32 %r1, tile;\n\tst.global.u64 [%rd0+128], %rd0;\n\tadd.s64 %rd2, %rd0, 128;\n\tmov.u32 %r2, 8;\n"
      "\tcp.async.cg.shared.global [%r1], [%rd2], 16, %r2;\n\tcp.async.commit_group;\n";
  const std::string look =
      "\tld.shared.u64 %rd3, [%r1];\n\tst.global.u64 [%rd0], %rd3;\n\tld.shared.u64 %rd3, [%r1+8];\n\tst.global.u64 [%rd0+8], %rd3;\n";
  const std::vector<uint64_t> early = results(copies + "\tcp.async.wait_group 1;\n" + look, 1, kTile);
  CHECK(early[0] == ~uint64_t{0});
  const std::vector<uint64_t> late = results(copies + "\tcp.async.wait_group 0;\n" + look, 1, kTile);
  CHECK(late[0] == late[16]);
  CHECK(late[1] == 0);
}

const std::string kFetch =
    "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], "
    "%r5;\n\tcp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
    "[%r1], [%rd2, {%r4, %r4, %r4, %r4}], [%r2];\n";
const std::string kWait = "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%r2], %r4;\n@!done bra again;\n}\n";

// Runs statements beside a map of 2 rows of 64 elements. In %r1 stands its place, in %r2 its barrier, in %r7 one of 32 arrivals.
std::vector<uint64_t> with_boxes(const std::string& statements, unsigned threads) {
  std::vector<uint64_t> data(32);
  for (size_t i = 0; i < data.size(); ++i) data[i] = i + 1;
  EncodedMap map{.data = reinterpret_cast<uint64_t>(data.data()),
                 .extent = {64, 2, 1, 1},
                 .bytes = {128, 256, 256},
                 .box = {64, 2, 1, 1},
                 .every = {1, 1, 1, 1}};
  alignas(64) unsigned char encoded[128] = {};
  std::memcpy(encoded, &map, sizeof(map));
  const Allowed memory(data);
  const std::string begin =
      "mov.u32 %r1, tile;\n\tmov.u32 %r2, gate;\n\tadd.s32 %r7, %r2, 8;\n\tmov.u32 %r3, 1;\n\tmov.u32 %r8, 32;\n\tmov.u32 %r4, 0;\n"
      "\tmov.u32 %r5, 256;\n\tmov.u64 %rd2, " +
      std::to_string(reinterpret_cast<uint64_t>(encoded)) +
      ";\n\tsetp.ne.s32 %p1, %r0, 0;\n\t@%p1 bra READY;\n\tmbarrier.init.shared::cta.b64 [%r2], %r3;\n"
      "\tmbarrier.init.shared::cta.b64 [%r7], %r8;\nREADY:\n\tbar.sync 0;\n\t";
  return results(begin + statements, threads, kTile);
}
std::vector<uint64_t> with_box(const std::string& wait) {
  return with_boxes(kFetch + wait +
                        "\tld.shared.u64 %rd3, [%r1];\n\tst.global.u64 [%rd0], %rd3;\n\tld.shared.u64 %rd3, [%r1+144];\n"
                        "\tst.global.u64 [%rd0+8], %rd3;\n",
                    1);
}

TEST_CASE("machine for PTX: boxes arrive when their barrier is waited for, with their rows swizzled") {
  const std::vector<uint64_t> seen = with_box(kWait);
  CHECK(seen[0] == 1);
  CHECK(seen[1] == 17);  // the first piece of row 1 lies where the second would
  CHECK_THROWS_WITH_AS(with_box(""), doctest::Contains("the block ends with boxes on their way"), Fault);
}

void check_fault(const std::string& statements, const char* says, unsigned threads = 32) {
  CAPTURE(statements);
  CHECK_THROWS_WITH_AS(results(statements, threads, kTile), doctest::Contains(says), Fault);
}

TEST_CASE("machine for PTX: what a GPU would answer with a fault or never, is named") {
  check_fault("ld.global.u32 %r1, [%rd1+504];", "no memory of the device");
  check_fault("ld.global.u64 %rd2, [%rd0+4];", "no multiple of 8 bytes");
  check_fault("mov.u32 %r1, tile;\n\tld.shared.u32 %r2, [%r1+65536];", "beyond the block's shared memory");
  check_fault("setp.gt.u32 %p1, %r0, 15;\n\t@%p1 ret;\n\tshfl.sync.bfly.b32 %r1|%p2, %r0, 16, 31, -1;", "lanes that have returned");
  check_fault("mov.u32 %r1, 0xFFFF;\n\tsetp.gt.u32 %p1, %r0, 15;\n\t@%p1 ret;\n\tshfl.sync.bfly.b32 %r1|%p2, %r0, 16, 31, %r1;", "is read");
  check_fault("setp.gt.u32 %p1, %r0, 15;\n\t@%p1 bra APART;\n\tbar.warp.sync -1;\nAPART:\n\tbar.warp.sync 1;", "lane");
  check_fault("setp.gt.u32 %p1, %r0, 31;\n\t@%p1 ret;\n\tbar.sync 0;", "threads have returned", 64);
  check_fault("mov.u32 %r1, gate;\n\tmbarrier.arrive.shared::cta.b64 _, [%r1];", "never initialized");
  check_fault(
      "mov.u32 %r2, gate;\n\tmov.u32 %r3, 2;\n\tmov.u32 %r4, 0;\n\tmbarrier.init.shared::cta.b64 [%r2], "
      "%r3;\n\tmbarrier.arrive.shared::cta.b64 _, [%r2];\n" +
          kWait,
      "they wait for what never comes", 1);
  check_fault("trap;", "trapped");
  check_fault("brkpt.now;", "line 24: brkpt.now: an instruction that this machine does not know");
}

struct Watching {
  Watching() { watches_races = true; }
  ~Watching() { watches_races = false; }
};
void check_race(const std::string& statements, const char* says, const std::string& mended) {
  const Watching races;
  check_fault(statements, says, 64);
  CHECK_NOTHROW(results(mended, 64, kTile));
}

TEST_CASE("machine for PTX: accesses to shared memory that nothing orders are races") {
  const std::string own = "mov.u32 %r1, tile;\n\tshl.b32 %r2, %r0, 2;\n\tadd.s32 %r3, %r1, %r2;\n\txor.b32 %r4, %r2, ";
  const auto exchange = [&](const char* distance, const std::string& between) {
    return own + distance + ";\n\tadd.s32 %r5, %r1, %r4;\n\tst.shared.u32 [%r3], %r0;\n\t" + between + "\n\tld.shared.u32 %r6, [%r5];";
  };
  check_race(exchange("128", "bar.warp.sync -1;"), "a race", exchange("128", "bar.sync 0;"));
  check_race(exchange("4", "shfl.sync.bfly.b32 %r7|%p1, %r0, 1, 31, -1;"), "reads what was written", exchange("4", "bar.warp.sync -1;"));
  const std::string again = "\n\tst.shared.u32 [%r3], %r6;";
  check_race(exchange("128", "bar.sync 0;") + again, "a race", exchange("128", "bar.sync 0;") + "\n\tbar.sync 0;" + again);

  const std::string copy =
      own +
      "0;\n\tshl.b32 %r2, %r0, 4;\n\tadd.s32 %r3, %r1, %r2;\n\tmov.u32 %r5, 16;\n\tcp.async.cg.shared.global [%r3], [%rd0], 16, %r5;\n"
      "\tcp.async.commit_group;\n\t";
  check_race(copy + "bar.sync 0;\n\tld.shared.u32 %r6, [%r3];", "still on its way",
             copy + "cp.async.wait_group 0;\n\tld.shared.u32 %r6, [%r3];");
  check_race(copy + "cp.async.wait_group 0;\n\txor.b32 %r3, %r3, 512;\n\tld.shared.u32 %r6, [%r3];", "a race",
             copy + "cp.async.wait_group 0;\n\tbar.sync 0;\n\txor.b32 %r3, %r3, 512;\n\tld.shared.u32 %r6, [%r3];");

  // Thread 0 writes, all of the second warp read behind an mbarrier that it arrived at, or at once.
  const auto handed = [&](const std::string& arrives, const std::string& waits) {
    return "mov.u32 %r1, tile;\n\tmov.u32 %r2, gate;\n\tmov.u32 %r3, 1;\n\tmov.u32 %r4, 0;\n\tsetp.ne.s32 %p1, %r0, 0;\n\t@%p1 bra READY;\n"
           "\tmbarrier.init.shared::cta.b64 [%r2], %r3;\nREADY:\n\tbar.sync 0;\n\t@%p1 bra WROTE;\n\tst.shared.u32 [%r1], %r0;\n\t" +
           arrives + "\nWROTE:\n\tsetp.lt.u32 %p2, %r0, 32;\n\t@%p2 bra DONE;\n\t" + waits + "ld.shared.u32 %r6, [%r1];\nDONE:";
  };
  const std::string arrives = "mbarrier.arrive.shared::cta.b64 _, [%r2];";
  check_race(handed(arrives, ""), "reads what was written", handed(arrives, kWait));
}

// A [64, 16] times B [64, 16]^T of ones by 128 threads, who wrote them; the first sum of each is stored.
std::string product(const std::string& ready, const std::string& behind) {
  std::string sums;
  for (int i = 0; i < 32; ++i) sums += (i == 0 ? "%f" : ", %f") + std::to_string(i);
  std::string text =
      "mov.u32 %r1, tile;\n\tshl.b32 %r2, %r0, 7;\n\tadd.s32 %r2, %r1, %r2;\n\tmov.u32 %r3, 0x3F803F80;\n\tmov.u32 %r4, 8;\n";
  for (int word = 0; word < 128; word += 16) {
    text += "\tst.shared.v4.u32 [%r2+" + std::to_string(word) + "], {%r3, %r3, %r3, %r3};\n";
  }
  for (int i = 0; i < 32; ++i) text += "\tmov.f32 %f" + std::to_string(i) + ", 0f00000000;\n";
  const std::string fields = std::to_string(uint64_t{64} << 32 | uint64_t{1} << 62);  // see matrix_descriptor
  return text + ready + "\n\tcvt.u64.u32 %rd2, %r1;\n\tshr.u64 %rd2, %rd2, 4;\n\tor.b64 %rd2, %rd2, " + fields +
         ";\n\tadd.s64 %rd3, %rd2, 512;\n\twgmma.fence.sync.aligned;\n\twgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" + sums +
         "}, %rd2, %rd3, 1, 1, 1, 0, 0;\n\twgmma.commit_group.sync.aligned;\n\t" + behind +
         "\n\tst.shared.u32 [%r2], %r3;\n\twgmma.wait_group.sync.aligned 0;\n\tsetp.gt.u32 %p1, %r0, 63;\n\t@%p1 ret;\n\tst.global.f32 "
         "[%rd1], %f0;";
}
constexpr char kTiles[] = "\n.shared .align 1024 .b8 tile[16384];\n";

TEST_CASE("machine for PTX: wgmma multiplies; what threads write before without a fence, or over what it still reads, is a race") {
  const std::string fenced = "fence.proxy.async.shared::cta;\n\tbar.sync 0;", ended = "wgmma.wait_group.sync.aligned 0;\n\tbar.sync 0;";
  const std::vector<uint64_t> sums = results(product(fenced, ended), 128, kTiles);
  for (size_t thread = 0; thread < 64; ++thread) CHECK(std::bit_cast<float>(static_cast<uint32_t>(sums[thread])) == 16);
  const Watching races;
  CHECK_NOTHROW(results(product(fenced, ended), 128, kTiles));
  CHECK_THROWS_WITH_AS(results(product("bar.sync 0;", ended), 128, kTiles), doctest::Contains("without fence.proxy.async"), Fault);
  CHECK_THROWS_WITH_AS(results(product(fenced, ""), 128, kTiles), doctest::Contains("still on its way"), Fault);
  CHECK_THROWS_WITH_AS(results(product(fenced, "wgmma.wait_group.sync.aligned 0;"), 128, kTiles), doctest::Contains("a race"), Fault);
}

TEST_CASE("machine for PTX: a box is read by who waited for it") {
  const auto read = [](const std::string& waits) {
    return "\tsetp.ne.s32 %p2, %r0, 0;\n\t@%p2 bra FETCHED;\n\t" + kFetch + "FETCHED:\n\tbar.sync 0;\n" + waits +
           "\tld.shared.u64 %rd3, [%r1];\n\tst.global.u64 [%rd1], %rd3;\n";
  };
  const Watching races;
  CHECK(with_boxes(read(kWait), 64)[40] == 1);
  CHECK_THROWS_WITH_AS(with_boxes(read(""), 64), doctest::Contains("reads what was written"), Fault);
}

TEST_CASE("machine for PTX: a box over what other warps read is a race, unless they arrived where its thread waited") {
  // Warp 1 reads the place, then the first thread fetches a box to it.
  const auto refilled = [](const std::string& arrives, const std::string& waits) {
    return "\tsetp.lt.u32 %p1, %r0, 32;\n\t@%p1 bra PRODUCER;\n\tld.shared.u64 %rd3, [%r1];\n\t" + arrives +
           "\n\tbra.uni MET;\nPRODUCER:\n" + waits + "\tsetp.ne.s32 %p2, %r0, 0;\n\t@%p2 bra MET;\n\t" + kFetch + kWait + "MET:\n";
  };
  const std::string arrives = "mbarrier.arrive.shared::cta.b64 _, [%r7];";
  const std::string waits =
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%r7], %r4;\n@!done bra again;\n}\n";
  const Watching races;
  CHECK_NOTHROW(with_boxes(refilled(arrives, waits), 64));
  CHECK_THROWS_WITH_AS(with_boxes(refilled(arrives, ""), 64), doctest::Contains("a race"), Fault);
}

TEST_CASE("machine for PTX: sectors of global memory and turns of shared memory are counted") {
  // Each group of lanes begins where the one before did, an access further.
  const auto count = [](auto counts, uint64_t step, size_t bytes, uint32_t mask = kAllLanes, uint64_t group = kLanes) {
    uint64_t addresses[kLanes];
    for (uint64_t lane = 0; lane < kLanes; ++lane) addresses[lane] = 4096 + lane % group * step + lane / group * bytes;
    Accesses a;
    counts(a, addresses, mask, bytes);
    return std::pair(a.parts, a.least);
  };
  using Two = std::pair<uint64_t, uint64_t>;
  CHECK(count(count_global, 4, 4) == Two(4, 4));
  CHECK(count(count_global, 8, 4) == Two(8, 4));
  CHECK(count(count_global, 32, 4) == Two(32, 4));
  CHECK(count(count_global, 0, 4) == Two(1, 1));
  CHECK(count(count_global, 32, 16) == Two(32, 16));
  CHECK(count(count_global, 4, 4, 0xFF) == Two(1, 1));
  CHECK(count(count_shared, 4, 4) == Two(1, 1));
  CHECK(count(count_shared, 8, 4) == Two(2, 1));
  CHECK(count(count_shared, 128, 4) == Two(32, 1));
  CHECK(count(count_shared, 0, 4) == Two(1, 1));
  CHECK(count(count_shared, 8, 8) == Two(2, 2));
  CHECK(count(count_shared, 16, 16) == Two(4, 4));
  CHECK(count(count_shared, 128, 16) == Two(32, 4));
  CHECK(count(count_shared, 128, 4, kAllLanes, 8) == Two(8, 1));
  CHECK(count(count_shared, 128, 8, kAllLanes, 16) == Two(32, 2));  // halves of a warp wait for each other
  CHECK(count(count_shared, 128, 16, kAllLanes, 8) == Two(32, 4));  // quarters do

  struct Counting {
    Counting() { counted = &traffic()[""]; }
    ~Counting() { counted = nullptr, traffic().clear(); }
  } const counting;
  results("st.global.u64 [%rd1], %rd0;\n\tmov.u32 %r1, tile;\n\tld.shared.u32 %r2, [%r1];", 32, kTile);
  const Traffic& of = traffic().at("probe");
  CHECK(of.launches == 1);
  CHECK(of.instructions == 6);  // with those that every probe begins and ends with; no moves
  CHECK(of.lanes == 6 * 32);
  CHECK(of.global_stores.parts == 8);
  CHECK(of.shared_loads.parts == 1);
  CHECK(traffic_table().find("probe") != std::string::npos);
  with_box(kWait);
  CHECK(of.global_loads.instructions == 1);
  CHECK(of.global_loads.parts == 256 / 32);
}

TEST_CASE("machine for PTX: a cluster's blocks meet, and read each other's shared memory") {
  const std::vector<uint64_t> seen = results(
      "mov.u32 %r1, tile;\n\tmov.u32 %r2, %ctaid.x;\n\tst.shared.u32 [%r1], %r2;\n\tbarrier.cluster.arrive.release.aligned;\n"
      "\tbarrier.cluster.wait.acquire.aligned;\n\txor.b32 %r3, %r2, 1;\n\tmapa.shared::cluster.u32 %r4, %r1, %r3;\n"
      "\tld.shared::cluster.u32 %r5, [%r4];\n\tmul.wide.u32 %rd2, %r2, 8;\n\tadd.s64 %rd2, %rd0, %rd2;\n\tadd.s32 %r5, %r5, 10;\n"
      "\tst.global.u32 [%rd2], %r5;\n\tbarrier.cluster.arrive.relaxed.aligned;\n\tbarrier.cluster.wait.aligned;",
      64, kTile, 2);
  CHECK(seen[0] == 11);
  CHECK(seen[1] == 10);
}

}  // namespace
}  // namespace reid::test::ptx
