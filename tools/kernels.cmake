# The CUDA backend: every kernel file through nvcc, the runtime through the host's compiler, both for whoever links reid_cuda. Beside each
# object lies what ptxas says of its kernels, which tools/check_kernels.py reads. Targets: reid_cuda, reid_kernels_cuda (`make cuda`).
set(REID_CUDA_ARCH "80;90a" CACHE STRING "Machine code for these architectures; PTX of the first serves what comes later")
set(architectures "")
set(ptx ON)
foreach(arch ${REID_CUDA_ARCH})
  if(REID_PLAYED_CARD OR (ptx AND arch MATCHES "^[0-9]+$"))  # PTX of 90a runs nowhere else
    list(APPEND architectures -gencode arch=compute_${arch},code=[sm_${arch},compute_${arch}])
  else()
    list(APPEND architectures -gencode arch=compute_${arch},code=sm_${arch})
  endif()
  set(ptx OFF)
endforeach()
set(nvcc_flags -std=c++20 -O3 -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/kernels ${architectures}
  $<$<BOOL:${REID_WERROR}>:-Werror=all-warnings>  # which holds for the host's compiler, too
  -Xcompiler -Wall,-Wextra,-ffp-contract=off,-fPIC -Xptxas -v)
if(REID_PLAYED_CARD)
  list(APPEND nvcc_flags --no-compress)
endif()
if("90a" IN_LIST REID_CUDA_ARCH)
  list(APPEND nvcc_flags -DREID_SM90A)
endif()
set(reports "")
set(objects "")
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
  if(NOT name MATCHES "^tests/")
    list(APPEND objects ${object})
  endif()
endforeach()
add_custom_target(reid_cuda_objects DEPENDS ${reports})  # one place that runs nvcc, whoever asks
add_custom_target(reid_kernels_cuda COMMAND python3 ${PROJECT_SOURCE_DIR}/tools/check_kernels.py ${reports} VERBATIM)
add_dependencies(reid_kernels_cuda reid_cuda_objects)

# The runtime library, linked statically: the program must start where there is no driver.
get_filename_component(toolkit ${REID_NVCC} REALPATH)
get_filename_component(toolkit ${toolkit}/../.. ABSOLUTE)
find_path(REID_CUDA_INCLUDE cuda_runtime_api.h HINTS ${toolkit}/include)
find_library(REID_CUDART cudart_static HINTS ${toolkit}/lib64 ${toolkit}/lib)
mark_as_advanced(REID_CUDA_INCLUDE REID_CUDART)
if(REID_CUDA_INCLUDE AND REID_CUDART)
  add_library(reid_cuda OBJECT src/backends/cuda/runtime.cpp)
  target_link_libraries(reid_cuda PUBLIC reid_options ${objects} ${REID_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
  target_include_directories(reid_cuda SYSTEM PRIVATE ${REID_CUDA_INCLUDE})
  add_dependencies(reid_cuda reid_cuda_objects)
elseif(REID_WITH_CUDA STREQUAL "ON")
  message(FATAL_ERROR "REID_WITH_CUDA=ON, and nvcc has no runtime library (cudart_static) beside it: set REID_CUDA_INCLUDE and REID_CUDART")
else()
  message(STATUS "nvcc was found, the runtime library (cudart_static) was not: kernels are compiled, the program has no CUDA backend")
endif()
