// Counts as published. Each source is the paper that introduced the set, or the program whose protocol everyone follows.

#include "reid/people/dataset.h"

namespace reid {

namespace {

constexpr const char* kWithdrawn = "withdrawn by its authors in 2019: it should not be used in new work";
constexpr const char* kValidation =
    "programs differ: some train without the images of list_val.txt (val=exclude), so say which when you report results";

}  // namespace

const std::vector<PublishedCounts>& published_counts() {
  // images, identities (people with a number above 0), cameras, tracklets; 0: not given. Query and gallery without junk.
  static const std::vector<PublishedCounts> table = {
      {"market1501", "", "Market-1501", {12936, 751, 6}, {3368, 750, 6}, {15913, 750, 6}, "Zheng et al., ICCV 2015; torchreid"},
      {"market1501",
       "distractors=500k",
       "Market-1501 with 500,000 distractors",
       {12936, 751, 6},
       {3368, 750, 6},
       {515913, 750, 6},
       "Zheng et al., ICCV 2015"},
      {"dukemtmc", "", "DukeMTMC-reID", {16522, 702, 8}, {2228, 702, 8}, {17661, 1110, 8}, "Zheng et al., ICCV 2017", kWithdrawn},
      {"msmt17",
       "val=include",
       "MSMT17, validation included",
       {32621, 1041, 15},
       {11659, 3060, 15},
       {82161, 3060, 15},
       "Wei et al., CVPR 2018",
       kValidation},
      {"msmt17",
       "val=exclude",
       "MSMT17, validation excluded",
       {30248, 1041, 15},
       {11659, 3060, 15},
       {82161, 3060, 15},
       "Wei et al., CVPR 2018; torchreid",
       kValidation},
      {"msmt17", "merged=yes", "MSMT17, merged", {126441, 4101, 15}, {}, {}, "Wei et al., CVPR 2018"},
      {"cuhk03-np", "boxes=detected", "CUHK03-NP, detected", {7365, 767, 2}, {1400, 700, 2}, {5332, 700, 2}, "Zhong et al., CVPR 2017"},
      {"cuhk03-np", "boxes=labeled", "CUHK03-NP, labeled", {7368, 767, 2}, {1400, 700, 2}, {5328, 700, 2}, "Zhong et al., CVPR 2017"},
      {"cuhk-sysu", "", "CUHK-SYSU", {34574, 11934, 0}, {}, {}, "Xiao et al., CVPR 2017; torchreid"},
      {"cuhk01", "", "CUHK01", {3884, 971, 2}, {}, {}, "Li et al., ACCV 2012"},
      {"cuhk02",
       "",
       "CUHK02",
       {6308, 1577, 8},
       {478, 239, 1},
       {478, 239, 1},
       "Li and Wang, CVPR 2013; torchreid",
       "shares images with CUHK01: never train on one and test on the other"},
      {"viper", "", "VIPeR", {1264, 632, 2}, {}, {}, "Gray et al., PETS 2007"},
      {"prid", "", "PRID 2011, single shot", {400, 200, 2}, {}, {}, "Hirzer et al., SCIA 2011"},
      {"ilids", "", "QMUL iLIDS", {476, 119, 0}, {}, {}, "Zheng et al., BMVC 2009"},
      {"prid2011-video", "", "PRID 2011, multi shot", {0, 200, 2, 400}, {}, {}, "Hirzer et al., SCIA 2011"},
      {"dukemtmc-videoreid",
       "",
       "DukeMTMC-VideoReID",
       {0, 702, 0, 2196},
       {0, 702, 0, 702},
       {0, 1110, 0, 2636},
       "Wu et al., CVPR 2018",
       kWithdrawn},
  };
  return table;
}

}  // namespace reid
