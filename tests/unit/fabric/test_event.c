/* SPDX-License-Identifier: Apache-2.0 */
/* Events: Docker's form, filters, replay, and publishers that never wait. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/json.h"
#include "base/process.h"
#include "fabric/event.h"

#define PATIENCE (30ll * 1000000000)

static int setup(void **state)
{
	*state = event_bus_new(8, 8);
	return 0;
}

static int teardown(void **state)
{
	event_bus_free(*state);
	return 0;
}

static int64_t publish(struct event_bus *b, const char *type, const char *action, const char *id,
		       const char *name)
{
	CLEANUP_JSON json_t *a =
		json_pack("{s:s, s:s, s:s}", "name", name, "image", "redis:7", "tier", "db");

	return event_publish(b, type, action, id, a);
}

/* The action of the next event; "-" where there is none. */
static const char *next(struct event_sub *s)
{
	static char action[40];
	json_t *e = NULL;
	int r = event_next(s, 0, &e);

	snprintf(action, sizeof(action), "%s", r == 1 ? json_str(e, "Action", "?") : "-");
	json_decref(e);
	return action;
}

static void test_events_have_dockers_form(void **state)
{
	struct event_sub *s;
	CLEANUP_JSON json_t *e = NULL;
	CLEANUP_JSON json_t *a =
		json_pack("{s:s, s:s, s:i}", "name", "db", "image", "redis", "n", 5);
	int64_t ns;

	assert_int_equal(event_subscribe(*state, NULL, 0, 0, &s, NULL), 0);
	ns = event_publish(*state, "container", "start", "abc", a);
	assert_int_equal(event_next(s, PATIENCE, &e), 1);
	assert_string_equal(json_str(e, "Type", ""), "container");
	assert_string_equal(json_str(e, "Action", ""), "start");
	assert_string_equal(json_str(e, "status", ""), "start");
	assert_string_equal(json_str(e, "id", ""), "abc");
	assert_string_equal(json_str(e, "from", ""), "redis");
	assert_string_equal(json_str(json_at(e, "Actor.Attributes"), "n", ""), "5");
	assert_string_equal(json_str(json_object_get(e, "Actor"), "ID", ""), "abc");
	assert_true(json_int(e, "timeNano", 0) == ns);
	assert_true(json_int(e, "time", 0) == ns / 1000000000);
	event_unsubscribe(s);
}

static int count_matching(struct event_bus *b, const char *filters)
{
	CLEANUP_JSON json_t *f = json_parse(filters, strlen(filters), "filters", NULL);
	struct event_sub *s;
	int n = 0;

	assert_non_null(f);
	assert_int_equal(event_subscribe(b, f, 0, 0, &s, NULL), 0);
	publish(b, "container", "start", "0123456789abcdef", "db");
	publish(b, "container", "exec_create: sh", "fedcba9876543210", "web");
	publish(b, "volume", "create", "data", "data");
	while (strcmp(next(s), "-") != 0)
		n++;
	event_unsubscribe(s);
	return n;
}

static void test_filters_are_anded_between_kinds_and_ored_within(void **state)
{
	struct event_bus *b = *state;
	CLEANUP_JSON json_t *bad = json_pack("{s:[s]}", "colour", "red");
	CLEANUP_JSON json_t *worse = json_pack("{s:[i]}", "type", 1);
	struct error err = { 0 };
	struct event_sub *s;

	assert_int_equal(count_matching(b, "{}"), 3);
	assert_int_equal(count_matching(b, "{\"type\":[\"container\"]}"), 2);
	assert_int_equal(count_matching(b, "{\"type\":{\"container\":true,\"volume\":true}}"), 3);
	assert_int_equal(count_matching(b, "{\"type\":[\"container\"],\"event\":[\"create\"]}"), 0);
	assert_int_equal(count_matching(b, "{\"event\":[\"exec_create\",\"start\"]}"), 2);
	assert_int_equal(count_matching(b, "{\"container\":[\"db\"]}"), 1);
	assert_int_equal(count_matching(b, "{\"container\":[\"0123456789ab\"]}"), 1);
	assert_int_equal(count_matching(b, "{\"container\":[\"0123\"]}"), 0);
	assert_int_equal(count_matching(b, "{\"volume\":[\"data\"]}"), 1);
	assert_int_equal(count_matching(b, "{\"label\":[\"tier=db\"]}"), 3);
	assert_int_equal(count_matching(b, "{\"label\":[\"tier=web\"]}"), 0);
	assert_int_equal(count_matching(b, "{\"image\":[\"redis\"]}"), 3);
	assert_int_equal(event_subscribe(b, bad, 0, 0, &s, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "colour"));
	assert_int_equal(event_subscribe(b, worse, 0, 0, &s, &err), -EINVAL);
}

static void test_since_replays_and_until_ends(void **state)
{
	struct event_bus *b = *state;
	struct event_sub *s;
	int64_t second, third;
	json_t *e = NULL;

	publish(b, "container", "one", "x", "x");
	second = publish(b, "container", "two", "x", "x");
	third = publish(b, "container", "three", "x", "x");
	assert_true(second < third);
	assert_int_equal(event_subscribe(b, NULL, second, 0, &s, NULL), 0);
	publish(b, "container", "four", "x", "x");
	assert_string_equal(next(s), "two");
	assert_string_equal(next(s), "three");
	assert_string_equal(next(s), "four");
	assert_int_equal(event_next(s, 0, &e), -ETIMEDOUT);
	event_unsubscribe(s);

	assert_int_equal(event_subscribe(b, NULL, 1, second, &s, NULL), 0);
	assert_string_equal(next(s), "one");
	assert_string_equal(next(s), "two");
	assert_int_equal(event_next(s, PATIENCE, &e), 0);
	event_unsubscribe(s);

	/* One that ends in a moment, without an event. */
	assert_int_equal(event_subscribe(b, NULL, 0, clock_real_ns() + 30000000, &s, NULL), 0);
	assert_int_equal(event_next(s, PATIENCE, &e), 0);
	event_unsubscribe(s);
}

static void test_history_is_bounded(void **state)
{
	struct event_bus *b = *state;
	struct event_sub *s;
	char action[8];

	for (int i = 0; i < 20; i++) {
		snprintf(action, sizeof(action), "%d", i);
		publish(b, "host", action, "x", "x");
	}
	assert_int_equal(event_subscribe(b, NULL, 1, 0, &s, NULL), 0);
	assert_string_equal(next(s), "12");
	event_unsubscribe(s);
}

static void test_a_slow_subscriber_is_dropped_and_told(void **state)
{
	struct event_bus *b = *state;
	struct event_sub *slow, *quick;
	json_t *e = NULL;

	assert_int_equal(event_subscribe(b, NULL, 0, 0, &slow, NULL), 0);
	assert_int_equal(event_subscribe(b, NULL, 0, 0, &quick, NULL), 0);
	for (int i = 0; i < 9; i++) {
		publish(b, "host", "x", "x", "x");
		assert_string_equal(next(quick), "x");
	}
	assert_int_equal(event_next(slow, PATIENCE, &e), -EOVERFLOW);
	event_unsubscribe(slow);
	event_unsubscribe(quick);
}

static void *wait_end(void *arg)
{
	json_t *e = NULL;
	long r = event_next(arg, -1, &e);

	return (void *)r;
}

static void test_cancel_and_shutdown_wake_a_waiter(void **state)
{
	struct event_bus *b = *state;
	struct event_sub *s1, *s2;
	pthread_t t1, t2;
	void *r1, *r2;

	assert_int_equal(event_subscribe(b, NULL, 0, 0, &s1, NULL), 0);
	assert_int_equal(event_subscribe(b, NULL, 0, 0, &s2, NULL), 0);
	pthread_create(&t1, NULL, wait_end, s1);
	pthread_create(&t2, NULL, wait_end, s2);
	event_cancel(s1);
	pthread_join(t1, &r1);
	event_bus_shutdown(b);
	pthread_join(t2, &r2);
	assert_null(r1);
	assert_null(r2);
	event_unsubscribe(s1);
	event_unsubscribe(s2);
}

struct stream {
	struct event_bus *bus;
	struct event_sub *sub;
	int events;
};

static void *read_all(void *arg)
{
	struct stream *s = arg;
	json_t *e = NULL;

	while (s->events < 400 && event_next(s->sub, PATIENCE, &e) == 1) {
		s->events++;
		json_decref(e);
	}
	return NULL;
}

static void *write_all(void *arg)
{
	struct stream *s = arg;

	for (int i = 0; i < 100; i++)
		publish(s->bus, "host", "x", "x", "x");
	return NULL;
}

static void test_many_publish_while_many_read(void **state)
{
	struct event_bus *b = event_bus_new(16, 1000);
	struct stream streams[2];
	pthread_t readers[2], writers[4];

	(void)state;
	for (int i = 0; i < 2; i++) {
		streams[i] = (struct stream){ .bus = b };
		assert_int_equal(event_subscribe(b, NULL, 0, 0, &streams[i].sub, NULL), 0);
		pthread_create(&readers[i], NULL, read_all, &streams[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&writers[i], NULL, write_all, &streams[0]);
	for (int i = 0; i < 4; i++)
		pthread_join(writers[i], NULL);
	for (int i = 0; i < 2; i++) {
		pthread_join(readers[i], NULL);
		assert_int_equal(streams[i].events, 400);
		event_unsubscribe(streams[i].sub);
	}
	event_bus_free(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_events_have_dockers_form),
		T(test_filters_are_anded_between_kinds_and_ored_within),
		T(test_since_replays_and_until_ends),
		T(test_history_is_bounded),
		T(test_a_slow_subscriber_is_dropped_and_told),
		T(test_cancel_and_shutdown_wake_a_waiter),
		T(test_many_publish_while_many_read),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
