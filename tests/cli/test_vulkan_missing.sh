#!/bin/sh
# SPDX-License-Identifier: MIT
# No Vulkan loader, no driver, a driver that is none, one that is too old, a device that lacks something: `quern devices` says
# which, by name, models run on the CPU, and asking for Vulkan is an error in the same words.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
run run "$model" -p "It was" -n 8 --temp 0 --device cpu
cp "$out" "$work/cpu"

# missing NAME PATTERN: what everything says with the environment as it is now
missing()
{
    run devices
    check "$1: devices works" test "$status" -eq 0
    check "$1: and says so" printed "^  vulkan  .*$2"
    check "$1: and lists the CPU" printed '^  cpu  '
    run devices --json
    check "$1: devices --json works" test "$status" -eq 0
    check "$1: and has it" sh -c \
        '"$1" "$2" plugins_not_loaded.0.reason && grep -q "\"reason\": .*$3" "$2"' x "$TOOLS/json_check" "$out" "$2"
    run run "$model" -p "It was" -n 8 --temp 0 --device vulkan
    fails_with "$2" "$1: run --device vulkan says it, too"
    run run "$model" -p "It was" -n 8 --temp 0
    check "$1: a model runs without it" cmp -s "$out" "$work/cpu"
    check "$1: without a word about Vulkan" sh -c '! grep -qi vulkan "$1"' x "$err"
}

# ---- the loader: libraries of its name come first ----
mkdir "$work/broken"
echo "this is no library" >"$work/broken/libvulkan.so.1"
cp "$work/broken/libvulkan.so.1" "$work/broken/libvulkan.so"
path=${LD_LIBRARY_PATH:-}
LD_LIBRARY_PATH=$work/broken:$path
export LD_LIBRARY_PATH
missing "no loader" 'no Vulkan loader is installed .*libvulkan1'
mkdir "$work/none" "$work/old"
cp "$VKLAYER/no_loader.so" "$work/none/libvulkan.so.1"
cp "$VKLAYER/old_loader.so" "$work/old/libvulkan.so.1"
LD_LIBRARY_PATH=$work/none:$path
missing "a library that is no loader" 'is no Vulkan loader'
LD_LIBRARY_PATH=$work/old:$path
missing "a loader of Vulkan 1.0" 'loader is of version 1.0; 1.2 is needed'
LD_LIBRARY_PATH=$path

# ---- drivers ----
icd() { printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$1"; }
if ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    for file in nowhere garbage no-library text-library; do
        case $file in
        garbage) echo '{"ICD": [' >"$work/$file.json" ;;
        no-library) icd /nowhere/libvulkan_x.so >"$work/$file.json" ;;
        text-library) icd "$work/broken/libvulkan.so" >"$work/$file.json" ;;
        esac
        VK_ICD_FILENAMES=$work/$file.json
        VK_DRIVER_FILES=$VK_ICD_FILENAMES
        export VK_ICD_FILENAMES VK_DRIVER_FILES
        missing "driver file: $file" 'finds no driver\|find no device\|description .*cannot be read'
    done
    unset VK_ICD_FILENAMES VK_DRIVER_FILES
else
    skip "no driver" "there is no Vulkan loader"
fi

# ---- a device that lacks something ----
run run "$model" -p "It was" -n 1 --temp 0 --device vulkan
if [ "$status" -ne 0 ] || [ ! -f "$VKLAYER/VkLayer_quern_faults.json" ]; then
    skip "what a device lacks" "no device, or the layer is not built here"
    tap_done
fi
VK_LAYER_PATH=$VKLAYER
VK_INSTANCE_LAYERS=VK_LAYER_QUERN_faults
export VK_LAYER_PATH VK_INSTANCE_LAYERS QUERN_VK_MASK
QUERN_VK_MASK=devices
NODEVICE_SELECT=1 # Mesa's layer that sorts devices crashes where there is none
export NODEVICE_SELECT
missing "no device" 'find no device'
unset NODEVICE_SELECT
QUERN_VK_MASK=version=1.1
missing "a driver of Vulkan 1.1" 'its driver knows Vulkan 1.1; 1.2 is needed'
for feature in bufferDeviceAddress timelineSemaphore scalarBlockLayout shaderInt64 storageBuffer16BitAccess \
    storageBuffer8BitAccess; do
    QUERN_VK_MASK=$feature
    missing "no $feature" "the driver lacks $feature"
done
QUERN_VK_MASK=compute
missing "no queue that computes" 'lacks a queue that computes'
QUERN_VK_MASK=visible
missing "no memory that the host sees" 'lacks memory that the host can see'
QUERN_VK_MASK=timelineSemaphore,shaderInt64
missing "two of them" 'lacks timelineSemaphore'

QUERN_VK_MASK=shaderFloat16
run explain "$model" --device vulkan --variant half_tiles
fails_with "no kernels 'half_tiles'.*(the driver does not calculate in 16-bit floats)" "kernels for which the driver lacks shaderFloat16"

# what is of use but not needed: the device works without
for part in shaderFloat16 shaderInt8 subgroupBroadcastDynamicId VK_EXT_memory_budget VK_EXT_external_memory_host \
    VK_EXT_pci_bus_info VK_KHR_maintenance4 VK_EXT_subgroup_size_control VK_KHR_shader_integer_dot_product; do
    QUERN_VK_MASK=$part
    run run "$model" -p "It was" -n 8 --temp 0 --device vulkan
    check "without $part the device runs a model" cmp -s "$out" "$work/cpu"
done
tap_done
