/* SPDX-License-Identifier: Apache-2.0 */
/* The version that ferryd reports. */
#ifndef FERRY_API_VERSION_H
#define FERRY_API_VERSION_H

#define FERRY_VERSION "0.1.0"

#endif
