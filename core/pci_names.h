/* SPDX-License-Identifier: MIT
 * core/pci_names.h: what PCI numbers are called, from the list that distributions install (pci.ids). Internal. */
#ifndef QUERN_CORE_PCI_NAMES_H
#define QUERN_CORE_PCI_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* "NVIDIA Corporation GH100 [H100 SXM5 80GB]", the vendor alone where the device is not listed, "" where there is no list. */
void qi_pci_name(const char *sysroot, uint32_t vendor, uint32_t device, char *dst, size_t size);

#endif
