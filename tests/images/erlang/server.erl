%% SPDX-License-Identifier: Apache-2.0
%%
%% A server of tests/images/README.md: a process a connection, state in ETS, erlang:send_after for single
%% shots, a process that ticks, and processes that live short and leave garbage.
-module(server).
-export([start/0]).

start() ->
	ets:new(numbers, [named_table, public, {write_concurrency, true}]),
	ets:new(texts, [named_table, public, {write_concurrency, true}]),
	ets:insert(numbers, [{ticks, 0}, {work, 0}, {back, 0}]),
	Now = erlang:monotonic_time(millisecond),
	spawn_link(fun() -> tick(Now, Now, os:system_time()) end),
	spawn_link(fun() -> work(0) end),
	spawn_link(fun() -> work(1000000) end),
	{ok, L} = gen_tcp:listen(7000, [binary, {packet, line}, {buffer, 65536}, {active, false},
		{reuseaddr, true}, {nodelay, true}, {backlog, 100}]),
	accept(L).

accept(L) ->
	{ok, S} = gen_tcp:accept(L),
	Pid = spawn(fun() -> receive go -> serve(S) end end),
	ok = gen_tcp:controlling_process(S, Pid),
	Pid ! go,
	accept(L).

serve(S) ->
	inet:setopts(S, [{active, once}]),
	receive
		{tcp, S, Line} ->
			Words = binary:split(string:trim(Line, trailing, "\n"), <<" ">>, [global]),
			ok = gen_tcp:send(S, [answer(Words), $\n]),
			serve(S);
		{tcp_closed, S} -> ok
	end.

answer([<<"add">>, Key, N]) ->
	integer_to_binary(ets:update_counter(numbers, Key, binary_to_integer(N), {Key, 0}));
answer([<<"put">>, Key, Text]) ->
	ets:insert(texts, {Key, Text}),
	<<"ok">>;
answer([<<"get">>, Key]) ->
	case ets:lookup(texts, Key) of
		[{_, Text}] -> Text;
		[] -> <<>>
	end;
answer([<<"after">>, Ms]) ->
	Ref = make_ref(),
	erlang:send_after(binary_to_integer(Ms), self(), Ref),
	receive Ref -> <<"ok">> end;
answer([<<"ticks">>]) ->
	[[{_, T}], [{_, W}], [{_, B}]] = [ets:lookup(numbers, K) || K <- [ticks, work, back]],
	io_lib:format("~b ~b ~b ~b", [T, W, B, erlang:monotonic_time(microsecond) -
		erlang:convert_time_unit(erlang:system_info(start_time), native, microsecond)]);
answer(_) ->
	<<"what?">>.

%% os:system_time/0 is the wall clock as it is; erlang:monotonic_time/0 is the runtime's own.
tick(Due, Mono, Wall) ->
	receive after max(0, Due - erlang:monotonic_time(millisecond)) -> ok end,
	M = erlang:monotonic_time(millisecond),
	W = os:system_time(),
	if
		M < Mono; W < Wall -> ets:update_counter(numbers, back, 1);
		true -> ok
	end,
	ets:update_counter(numbers, ticks, 1),
	tick(Due + 10, M, W).

work(N) ->
	{_, Ref} = spawn_monitor(fun() ->
		L = [{I, integer_to_binary(I + N)} || I <- lists:seq(1, 500)],
		true = lists:all(fun({I, B}) -> binary_to_integer(B) =:= I + N end, lists:reverse(L))
	end),
	receive {'DOWN', Ref, process, _, normal} -> ets:update_counter(numbers, work, 1) end,
	timer:sleep(20),
	work(N + 1).
