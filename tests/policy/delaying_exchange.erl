%% An exchange type that behaves as rabbitmq_delayed_message_exchange does, as far as a publisher can
%% see: a message with a delay is routed nowhere, so that a mandatory one is returned, and reaches the
%% queues later all the same. The tests load it into a RabbitMQ 3.x of their own.
-module(delaying_exchange).
-behaviour(rabbit_exchange_type).
-export([
    description/0, serialise_events/0, info/1, info/2, route/2, validate/1, validate_binding/2,
    create/2, delete/3, policy_changed/2, add_binding/3, remove_bindings/3,
    assert_args_equivalence/2, deliver/2
]).

description() -> [{description, <<"delays messages">>}].
serialise_events() -> false.
info(_) -> [].
info(_, _) -> [].
validate(_) -> ok.
validate_binding(_, _) -> ok.
create(_, _) -> ok.
delete(_, _, _) -> ok.
policy_changed(_, _) -> ok.
add_binding(_, _, _) -> ok.
remove_bindings(_, _, _) -> ok.
assert_args_equivalence(Exchange, Arguments) ->
    rabbit_exchange:assert_args_equivalence(Exchange, Arguments).

%% The numbers are places in the records #delivery{}, #basic_message{} and #exchange{}.
route(Exchange, Delivery) ->
    Headers = rabbit_basic:extract_headers(element(4, element(5, Delivery))),
    case rabbit_misc:table_lookup(Headers, <<"x-delay">>) of
        undefined ->
            rabbit_exchange:route(setelement(3, Exchange, fanout), Delivery);
        {longstr, Delay} ->
            timer:apply_after(binary_to_integer(Delay), ?MODULE, deliver, [Exchange, Delivery]),
            []
    end.

deliver(Exchange, Delivery) ->
    Names = rabbit_exchange:route(setelement(3, Exchange, fanout), Delivery),
    Unconfirmed = setelement(3, setelement(2, Delivery, false), false),
    rabbit_queue_type:deliver(rabbit_amqqueue:lookup(Names), Unconfirmed, stateless).
