#include "emu/hopper.h"

#include <algorithm>
#include <cstring>

namespace reid::emu {

namespace {

// What an initialized barrier holds; whatever writes over it is noticed.
uint64_t mark_of(const void* barrier) { return 0x6D62617272696572ULL ^ reinterpret_cast<uintptr_t>(barrier); }

std::string at(Site site) { return str(" at ", site.file, ":", site.line); }

template <class... Parts>
[[noreturn]] void stop(const Parts&... parts) {
  detail::stop_kernel(str(parts...));
}

constexpr int64_t kMostBytes = (1 << 20) - 1;  // that a phase can count
constexpr char kOverwritten[] = ": a thread wrote over an operand that wgmma reads";
bool watches() { return detail::lane() == 0; }  // over operands: a lane of each warp, for the time that it takes

}  // namespace

void HopperUnits::clear(size_t threads) {
  barriers_.clear(), origins_.clear(), views_.clear();
  threads_.assign(threads, {});
}

void HopperUnits::end_thread() {
  if (const size_t left = mine().products.size(); left > 0) stop("the thread returns with ", left, " wgmma that it never waited for");
}

std::string HopperUnits::end_block() const {
  for (const auto& [place, b] : barriers_) {
    if (!b.boxes.empty())
      return str("the block ends with ", b.boxes.size(), " boxes on their way: no thread waited for ", describe(place, b));
  }
  for (size_t t = 0; t < threads_.size(); ++t) {
    const uint64_t issued = threads_[t].issued, first = threads_[t / 128 * 128].issued;
    if (issued == first && (issued == 0 || t / 128 * 128 + 128 <= threads_.size())) continue;
    return str("thread ", t, " took part in ", issued, " wgmma, the first thread of its warpgroup in ", first, ": all 128 of it must");
  }
  return "";
}

// --- barriers ---

HopperUnits::Barrier& HopperUnits::find(const char* call, void* barrier, Site site) {
  detail::shared_array_of(call, barrier, sizeof(uint64_t), site);
  const auto found = barriers_.find(barrier);
  if (found == barriers_.end()) stop(call, at(site), ": the barrier was never initialized, or not yet");
  uint64_t held;
  std::memcpy(&held, barrier, sizeof(held));
  if (held != mark_of(barrier)) stop(call, at(site), ": something was written over the barrier");
  return found->second;
}

std::string HopperUnits::describe(const void* barrier, const Barrier& b) const {
  const auto number = std::distance(barriers_.begin(), barriers_.find(barrier));
  return str("barrier ", number, " of ", barriers_.size(), ", whose phase ", b.phase, " lacks ", b.waits_for, " of ", b.arrivals,
             " arrivals and ", b.bytes, " bytes");
}

void HopperUnits::init(void* barrier, unsigned arrivals, Site site) {
  detail::shared_array_of("mbarrier_init", barrier, sizeof(uint64_t), site);
  detail::check_aligned(barrier, sizeof(uint64_t));
  if (arrivals == 0 || arrivals > kMostBytes)
    stop("mbarrier_init", at(site), ": a barrier waits for 1 to 2^20 - 1 arrivals, not ", arrivals);
  if (!barriers_.try_emplace(barrier, Barrier{arrivals, arrivals, detail::linear_thread()}).second) {
    stop("mbarrier_init", at(site), ": the barrier is initialized a second time");
  }
  const uint64_t mark = mark_of(barrier);
  std::memcpy(barrier, &mark, sizeof(mark));
}

void HopperUnits::fence_init() {
  for (auto& [place, b] : barriers_) b.fenced = b.fenced || b.thread == detail::linear_thread();
}

void HopperUnits::end_phase(Barrier& b) {
  if (b.waits_for > 0 || b.bytes != 0) return;
  size_t left = 0;
  for (const Box& box : b.boxes) left += box.phase == b.phase ? box.place.bytes : 0;
  if (left > 0) stop("phase ", b.phase, " of a barrier ends with ", left, " bytes on their way: fewer were expected than its boxes bring");
  ++b.phase, b.waits_for = b.arrivals;
}

void HopperUnits::arrive(void* barrier, unsigned bytes, Site site) {
  Barrier& b = find("mbarrier_arrive", barrier, site);
  if (b.waits_for == 0) {
    stop("mbarrier_arrive", at(site), ": one arrival more than were announced; ", describe(barrier, b),
         " (who arrives for the next phase waits for this one's end)");
  }
  b.bytes += bytes;
  if (b.bytes > kMostBytes) stop("mbarrier_arrive", at(site), ": ", b.bytes, " bytes are expected, a phase counts 2^20 - 1");
  --b.waits_for;
  end_phase(b);
}

// A thread that loses count of the phases reads what is not there yet, or no more.
void HopperUnits::saw(const void* barrier, int64_t phase, Site site) {
  const auto [last, first_time] = mine().seen.try_emplace(barrier, -1);
  if (phase == last->second && !first_time) {
    stop("mbarrier_wait", at(site), ": the thread waits a second time for the end of phase ", phase, ": the parity stayed");
  }
  if (phase > last->second + 1) {
    stop("mbarrier_wait", at(site), ": phase ", phase, " has ended, and the thread last saw phase ", last->second,
         " end: the barrier ran on without it");
  }
  last->second = phase;
}

void HopperUnits::wait(void* barrier, unsigned parity, Site site) {
  Barrier& b = find("mbarrier_wait", barrier, site);
  if (parity > 1) stop("mbarrier_wait", at(site), ": a parity is 0 or 1, not ", parity);
  const int64_t wanted = b.phase;
  if (wanted % 2 != parity) return saw(barrier, wanted - 1, site);  // -1 of a fresh barrier: nobody has used what it guards
  const auto ended = [&] {
    while (b.phase == wanted && !b.boxes.empty()) deliver(b);
    return b.phase > wanted;
  };
  const auto lacks = [&] { return describe(barrier, b); };
  detail::wait_until("mbarrier_wait", ended, lacks, site);
  saw(barrier, b.phase - 1, site);
}

// --- boxes ---

void HopperUnits::deliver(Barrier& b) {
  const Box box = std::move(b.boxes.front());
  b.boxes.pop_front();
  box.write(const_cast<unsigned char*>(box.place.start));
  std::memcpy(view(box.place.start), box.place.start, box.place.bytes);
  b.bytes -= static_cast<int64_t>(box.place.bytes);
  end_phase(b);
}

void HopperUnits::load(SharedRange place, void* barrier, Write write, Site site) {
  Barrier& b = find("load_box", barrier, site);
  detail::shared_array_of("load_box", place.start, place.bytes, site);
  detail::check_aligned(place.start, 1024);
  if (!b.fenced) stop("load_box", at(site), ": the copy engine does not know the barrier yet: mbarrier_fence_init is missing");
  for (const auto& [address, other] : barriers_) {
    for (const Box& box : other.boxes) {
      if (box.place.overlaps(place)) stop("load_box", at(site), ": another box is on its way to the same place");
    }
  }
  for (size_t t = 0; t < threads_.size(); ++t) {
    for (const Pending& product : threads_[t].products) {
      if (product.a.overlaps(place) || product.b.overlaps(place)) {
        stop("load_box", at(site), ": the box would replace what a wgmma of thread ", t, " still reads");
      }
    }
  }
  std::memset(const_cast<unsigned char*>(place.start), 0xFF, place.bytes);
  std::memset(view(place.start), 0xFF, place.bytes);
  b.boxes.push_back({b.phase, place, std::move(write)});
  std::erase_if(origins_, [&](const auto& known) { return SharedRange{known.first, known.second.bytes}.overlaps(place); });
  origins_[place.start] = {barrier, b.phase, place.bytes};
}

// Where the units see what stands at an address of shared memory.
unsigned char* HopperUnits::view(const void* address) {
  const SharedRange array = detail::shared_array_of("view", address, 1, {__FILE__, __LINE__});
  std::vector<unsigned char>& seen = views_[array.start];
  if (seen.empty()) seen.resize(array.bytes, 0xFF);
  return seen.data() + (static_cast<const unsigned char*>(address) - array.start);
}

void HopperUnits::fence_view(Site site) {
  for (const Thread& t : threads_) {  // before the view is made alike
    for (const Pending& product : t.products) check_unchanged("fence_proxy_async", product, site);
  }
  for (const SharedRange& array : detail::shared_arrays()) std::memcpy(view(array.start), array.start, array.bytes);
}

// --- products ---

bool HopperUnits::check_arrived(const SharedRange& operand, Site site) {
  bool of_box = false;
  for (const auto& [start, origin] : origins_) {
    if (!operand.overlaps({start, origin.bytes})) continue;
    of_box = true;
    const auto seen = mine().seen.find(origin.barrier);
    if (seen == mine().seen.end() || seen->second < origin.phase) {
      stop("wgmma", at(site), ": the thread did not wait for the box that it multiplies, phase ", origin.phase, " of its barrier");
    }
    if (watches() && !seen_alike(operand)) stop("wgmma", at(site), kOverwritten);
  }
  return of_box || (watches() && seen_alike(operand));
}

void HopperUnits::multiply(float* sums, size_t count, SharedRange a, SharedRange b, Product run, Site site) {
  Thread& t = mine();
  if (!t.fenced) stop("wgmma", at(site), ": no wgmma_fence stands before the first product of its group");
  bool alike = true;
  for (const SharedRange& operand : {a, b}) {
    detail::shared_array_of("wgmma", operand.start, operand.bytes, site);
    if (reinterpret_cast<uintptr_t>(operand.start) % 1024 >= 128) {
      stop("wgmma", at(site), ": an operand begins in row ", reinterpret_cast<uintptr_t>(operand.start) / 128 % 8,
           " of eight: with swizzled tiles it begins in row 0");
    }
    alike = check_arrived(operand, site) && alike;
  }
  auto found = std::find_if(t.sums.begin(), t.sums.end(), [&](const Sums& s) { return s.place == sums; });
  if (found == t.sums.end()) found = t.sums.insert(found, Sums{sums, count * sizeof(float), 0, false, {}});
  if (!found->held) {
    std::memcpy(found->values, sums, found->bytes);
    std::memset(sums, 0xFF, found->bytes);
    found->held = true;
  }
  ++found->pending, ++t.issued;
  t.products.push_back({t.group, static_cast<size_t>(found - t.sums.begin()), a, b, std::move(run), alike});
}

void HopperUnits::check_unchanged(const char* call, const Pending& product, Site site) {
  if (product.alike && !(seen_alike(product.a) && seen_alike(product.b))) stop(call, at(site), kOverwritten);
}

void HopperUnits::multiply_fence() { mine().fenced = true; }
void HopperUnits::multiply_commit() { mine().fenced = false, ++mine().group; }

void HopperUnits::multiply_wait(unsigned groups_in_flight, Site site) {
  Thread& t = mine();
  auto product = t.products.begin();
  for (; product != t.products.end() && product->group + groups_in_flight < t.group; ++product) {
    Sums& sums = t.sums[product->sums];
    if (watches()) check_unchanged("wgmma_wait", *product, site);
    const auto distance = [&](const SharedRange& operand) {
      return reinterpret_cast<uintptr_t>(view(operand.start)) - reinterpret_cast<uintptr_t>(operand.start);
    };
    product->run(sums.values, distance(product->a), distance(product->b));
    --sums.pending;
  }
  t.products.erase(t.products.begin(), product);
  for (Sums& sums : t.sums) {
    if (sums.pending > 0 || !sums.held) continue;
    const auto* bytes = reinterpret_cast<const unsigned char*>(sums.place);
    if (!std::all_of(bytes, bytes + sums.bytes, [](unsigned char byte) { return byte == 0xFF; })) {
      stop("wgmma_wait", at(site), ": the thread wrote to sums that wgmma was still adding to");
    }
    std::memcpy(sums.place, sums.values, sums.bytes);
    sums.held = false;
  }
  if (t.products.empty()) t.sums.clear();  // else indices stay
}

}  // namespace reid::emu
