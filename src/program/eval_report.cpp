// How the results of reid eval look, on a screen and as JSON.

#include "program/eval.h"

#include "reid/learning/method.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

namespace reid::program {
namespace {

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[160];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

std::string thousands(int64_t number) {
  std::string text = std::to_string(number);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

std::string padded(const std::string& text, size_t width) { return std::string(width > text.size() ? width - text.size() : 0, ' ') + text; }

using Figure = std::function<double(const EvaluationReport&)>;

struct Spread {
  double mean = 0, deviation = 0;  // over the splits; the population's, as torchreid's parse_test_res.py has it
};

Spread spread_of(const TargetResult& target, const Figure& figure) {
  Spread s;
  const auto count = static_cast<double>(target.splits.size());
  for (const SplitResult& split : target.splits) s.mean += figure(split.report) / count;
  for (const SplitResult& split : target.splits) s.deviation += std::pow(figure(split.report) - s.mean, 2) / count;
  s.deviation = std::sqrt(s.deviation);
  return s;
}

struct Column {
  std::string name;
  Figure figure;
};

std::vector<Column> columns_of(const EvaluationReport& report) {
  std::vector<Column> columns = {{"mAP", [](const EvaluationReport& r) { return r.mAP; }},
                                 {"mINP", [](const EvaluationReport& r) { return r.mINP; }}};
  for (int64_t k : report.ranks) columns.push_back({str("R", k), [k](const EvaluationReport& r) { return r.rank(k); }});
  return columns;
}

void show_notes(const Context& context, const TargetResult& target, bool named) {
  const SplitResult& first = target.splits.front();
  std::string text;
  const auto add = [&](int64_t count, const char* what) {
    if (count > 0) text += (text.empty() ? "" : "; ") + thousands(count) + what;
  };
  add(first.report.unmatched, " queries without a match");
  add(first.report.distractors, " gallery images of people no query shows");
  add(first.report.junk_queries, " junk queries");
  add(first.report.junk_gallery, " junk gallery images");
  const std::string where = named ? target.name + ": " : "";
  if (!text.empty()) context.say(where, text);
  for (const std::string& hint : first.report.hints) context.say("note: ", where, hint);
}

void show_histogram(const Context& context, const VerificationReport& r) {
  size_t first = r.same_histogram.size(), last = 0;
  for (size_t b = 0; b < r.same_histogram.size(); ++b) {
    if (r.same_histogram[b] + r.different_histogram[b] == 0) continue;
    first = std::min(first, b);
    last = b + 1;
  }
  const size_t step = (last - first + 15) / 16;  // 16 rows at most
  const auto share = [&](const std::vector<int64_t>& counts, size_t b, int64_t total) {
    int64_t sum = 0;
    for (size_t i = b; i < std::min(b + step, counts.size()); ++i) sum += counts[i];
    return static_cast<double>(sum) / static_cast<double>(total);
  };
  const auto bar = [](double s) { return std::string(static_cast<size_t>(std::lround(30 * s)), '#'); };
  context.say("\n  distance           same pairs                             different pairs");
  for (size_t b = first; b < last; b += step) {
    const double same = share(r.same_histogram, b, r.same_pairs), different = share(r.different_histogram, b, r.different_pairs);
    const double low = static_cast<double>(b) * r.bin_width, high = static_cast<double>(b + step) * r.bin_width;
    context.say(format("  %7.4f - %-7.4f %5.1f %% %-30s %5.1f %% %s", low, high, 100 * same, bar(same).c_str(), 100 * different,
                       bar(different).c_str()));
  }
}

Json to_json(const OperatingPoint& p) {
  return Json::object({{"threshold", p.threshold}, {"false_accept_rate", p.false_accept_rate}, {"true_accept_rate", p.true_accept_rate}});
}

Json list_of(const std::vector<int64_t>& numbers) {
  Json list = Json::array();
  for (int64_t number : numbers) list.push_back(number);
  return list;
}

Json to_json(const VerificationReport& r) {
  Json out = Json::object({{"same_pairs", r.same_pairs}, {"different_pairs", r.different_pairs}});
  Json points = Json::array(), curve = Json::array();
  for (size_t i = 0; i < r.points.size(); ++i) {
    Json point = to_json(r.points[i]);
    point["rate"] = r.rates[i];
    point["fastreid_tpr"] = r.fastreid[i];
    points.push_back(std::move(point));
  }
  for (const OperatingPoint& point : r.curve) curve.push_back(to_json(point));
  out["rates"] = std::move(points);
  out["equal_error_rate"] = r.equal_error_rate;
  out["equal_error_threshold"] = r.equal_error_threshold;
  out["area_under_curve"] = r.area;
  Json recommended = Json::object({{"wanted_false_accept_rate", r.wanted}, {"held_out", r.held_out}});
  recommended["chosen"] = to_json(r.chosen);
  recommended["measured"] = to_json(r.measured);
  recommended["chosen_pairs"] = Json::array({r.chosen_same, r.chosen_different});
  recommended["measured_pairs"] = Json::array({r.measured_same, r.measured_different});
  out["recommended"] = std::move(recommended);
  out["bin_width"] = r.bin_width;
  out["same_histogram"] = list_of(r.same_histogram);
  out["different_histogram"] = list_of(r.different_histogram);
  out["curve"] = std::move(curve);
  return out;
}

Json to_json(const SplitResult& split) {
  Json out = reid::to_json(split.report);
  out["queries"] = split.queries;
  out["gallery"] = split.gallery;
  out["junk_queries"] = split.report.junk_queries;
  out["junk_gallery"] = split.report.junk_gallery;
  out["removed_pairs"] = split.report.removed;
  Json hints = Json::array();
  for (const std::string& hint : split.report.hints) hints.push_back(hint);
  out["hints"] = std::move(hints);
  if (split.verification) out["verification"] = to_json(*split.verification);
  return out;
}

}  // namespace

std::string wrapped(const std::string& text) {
  constexpr size_t kWidth = 110;
  std::string out;
  size_t column = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("; ", begin), text.size() - 1) + 1;
    const std::string part = text.substr(begin, end - begin);
    if (column > 0 && column + part.size() + 1 > kWidth) {
      out += "\n  ";
      column = 2;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += part;
    column += part.size();
    begin = end + (end < text.size() ? 1 : 0);
  }
  return out;
}

void show_table(const Context& context, const std::vector<TargetResult>& results) {
  const std::vector<Column> columns = columns_of(results.front().splits.front().report);
  const bool spread = std::any_of(results.begin(), results.end(), [](const TargetResult& t) { return t.splits.size() > 1; });
  const size_t cell = spread ? 11 : 7;
  size_t width = 0;
  for (const TargetResult& target : results) width = std::max(width, target.name.size() + (target.splits.size() > 1 ? 14 : 0));
  std::string head = "%" + std::string(width > 0 ? width - 1 : 0, ' ');
  for (const Column& column : columns) head += padded(column.name, cell);
  context.say(head, padded("queries", 10), padded("gallery", 10));
  for (const TargetResult& target : results) {
    std::string line = target.splits.size() > 1 ? str(target.name, ", ", target.splits.size(), " splits") : target.name;
    line.resize(width, ' ');
    for (const Column& column : columns) {
      const Spread s = spread_of(target, column.figure);
      const std::string mean = format("%.1f", 100 * s.mean);
      line += padded(target.splits.size() > 1 ? mean + " +-" + format("%.1f", 100 * s.deviation) : mean, cell);
    }
    context.say(line, padded(thousands(target.splits.front().queries), 10), padded(thousands(target.splits.front().gallery), 10));
  }
  for (const TargetResult& target : results) show_notes(context, target, results.size() > 1);
}

void show_verification(const Context& context, const VerificationReport& r) {
  context.say("\nsame person or not: ", thousands(r.same_pairs), " same and ", thousands(r.different_pairs), " different pairs");
  context.say("  false accepts up to   found     with distances up to");
  for (size_t i = 0; i < r.rates.size(); ++i) {
    const bool too_few = r.rates[i] * static_cast<double>(r.different_pairs) < 1;
    const OperatingPoint& p = r.points[i];
    const std::string threshold = p.threshold < 0 ? "(none)" : format("%.4f", p.threshold);
    context.say(format("  %-19g %6.1f %%     %s", r.rates[i], 100 * p.true_accept_rate, threshold.c_str()),
                too_few ? str("   (no false accept at all: ", thousands(r.different_pairs), " pairs tell no lower rate)") : "");
  }
  context.say(format("  equal error rate %.2f %% at distance %.4f; area under the ROC %.4f", 100 * r.equal_error_rate,
                     r.equal_error_threshold, r.area));
  std::string fastreid;
  for (size_t i = 0; i < r.rates.size(); ++i) fastreid += format("%s%.1f", i > 0 ? ", " : "", 100 * r.fastreid[i]);
  context.say("  fast-reid's TPR@FPR at these rates (its positives are the different pairs): ", fastreid, " %");
  if (r.chosen.threshold < 0) {
    context.say(format("  no threshold keeps false accepts at %g", r.wanted));
  } else {
    context.say(format("  for false accepts of %g: same person when the distance is at most %.4f", r.wanted, r.chosen.threshold));
    context.say(format("    %s: false accepts %.3g, found %.1f %%",
                       r.held_out ? "chosen on half of the identities; measured on the other half"
                                  : "measured on the pairs it was chosen on (too few identities to divide)",
                       r.measured.false_accept_rate, 100 * r.measured.true_accept_rate));
  }
  show_histogram(context, r);
}

Json to_json(const std::vector<TargetResult>& results, const EvaluationOptions& options, const std::string& refinement) {
  const auto finish = [&](Json& out) {
    out["metric"] = name_of(options.metric);
    out["preset"] = options.preset;
    out["average_precision"] = name_of(options.precision);
    out["refinement"] = refinement;
  };
  if (results.size() == 1 && results[0].splits.size() == 1) {
    Json out = to_json(results[0].splits[0]);
    finish(out);
    return out;
  }
  Json out = Json::object(), targets = Json::array();
  for (const TargetResult& target : results) {
    Json one = Json::object({{"name", target.name}}), mean = Json::object(), deviation = Json::object(), splits = Json::array();
    for (const Column& column : columns_of(target.splits.front().report)) {
      const Spread s = spread_of(target, column.figure);
      const std::string key = column.name[0] == 'R' ? "rank" + column.name.substr(1) : column.name;
      mean[key] = s.mean;
      deviation[key] = s.deviation;
    }
    for (const SplitResult& split : target.splits) splits.push_back(to_json(split));
    one["mean"] = std::move(mean);
    one["deviation"] = std::move(deviation);
    one["splits"] = std::move(splits);
    targets.push_back(std::move(one));
  }
  out["targets"] = std::move(targets);
  finish(out);
  return out;
}

}  // namespace reid::program
