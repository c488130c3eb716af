# Compiles every kernel file with nvcc: machine code for sm_80 and sm_90a, and PTX for what comes later. Beside each object lies what ptxas
# says of its kernels, which tools/check_kernels.py reads. Target: reid_kernels_cuda.
set(nvcc_flags -std=c++20 -O3 -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/kernels
  -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a
  -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror,-ffp-contract=off -Xptxas -v)
set(reports "")
foreach(source ${kernel_sources} ${PROJECT_SOURCE_DIR}/kernels/register.cpp ${PROJECT_SOURCE_DIR}/tests/kernels/probes.cu)
  file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${source})
  set(object ${PROJECT_BINARY_DIR}/cuda/${name}.o)
  get_filename_component(folder ${object} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(OUTPUT ${object}.ptxas
    COMMAND ${PROJECT_SOURCE_DIR}/tools/nvcc.sh ${object}.ptxas ${REID_NVCC} ${nvcc_flags} -MD -MF ${object}.d -MT ${object}.ptxas -x cu -c ${source} -o ${object}
    DEPENDS ${source} ${PROJECT_SOURCE_DIR}/tools/nvcc.sh DEPFILE ${object}.d BYPRODUCTS ${object}
    COMMENT "nvcc ${name}" VERBATIM COMMAND_EXPAND_LISTS)
  list(APPEND reports ${object}.ptxas)
endforeach()
add_custom_target(reid_kernels_cuda
  COMMAND python3 ${PROJECT_SOURCE_DIR}/tools/check_kernels.py ${reports}
  DEPENDS ${reports} VERBATIM)
